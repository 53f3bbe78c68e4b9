//! Sends a batch's input file, streamed from the record: never all of it in memory, and never on disk.

use std::io::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::steps::{Counter, Trouble};
use crate::domain::{AttemptId, BatchId, custom_id};
use crate::engine::transport::multipart::{Form, Part};
use crate::provider::batch::{file_name, file_object, mentions_expiry, write_input_line};
use crate::store::{NewBatch, Store};

/// Lines read from the record at a time.
const PAGE: u32 = 200;
/// About how many bytes are handed to the socket at a time.
const PART: usize = 256 * 1024;
/// Parts that may wait for the socket.
const AHEAD: usize = 4;
/// How long the provider keeps the file: what a batch needs at most is a day, and hosts take no less than this.
const KEPT_SECONDS: &str = "1209600";

impl Counter {
    /// Sends the file once; once more without a date of expiry, where the server does not know of such a thing.
    pub(in crate::engine) async fn upload(
        &self,
        (new, id, bytes): (Arc<NewBatch>, BatchId, u64),
        open: impl Fn() -> Result<Store, Trouble>,
    ) -> Result<String, Trouble> {
        let expires = self.server.profile.expires_after;
        let sent = self.send((&new, id, bytes), expires, open()?).await;
        match sent {
            Err(Trouble::Refused(refused)) if expires && mentions_expiry(&refused.message) => {
                self.send((&new, id, bytes), false, open()?).await
            }
            other => other,
        }
    }

    async fn send(
        &self,
        (new, id, bytes): (&Arc<NewBatch>, BatchId, u64),
        expires: bool,
        store: Store,
    ) -> Result<String, Trouble> {
        let (parts, stream) = channel(AHEAD);
        let (name, batch) = (file_name(&new.token), Arc::clone(new));
        let reading =
            tokio::task::spawn_blocking(move || read(&store, (&batch, id, bytes), &parts));
        let form = form((name, bytes), stream, expires)?;
        let mut headers = self.server.headers.clone();
        headers.remove(CONTENT_TYPE);
        let to = (self.server.urls.files(), headers);
        let reply = self.transport.upload(to, (form, bytes), self.server.key.as_ref()).await;
        // What is wrong with the record explains why the connection broke.
        if let Ok(Err(error)) = reading.await {
            return Err(Trouble::Record(error));
        }
        let reply = Self::whole(reply?)?;
        Ok(file_object(&reply.body)?.id)
    }
}

fn form(
    (name, bytes): (String, u64),
    stream: Receiver<Result<Bytes, Error>>,
    expires: bool,
) -> Result<Form, Trouble> {
    let body = crate::engine::transport::stream(ReceiverStream::new(stream));
    let file = Part::stream_with_length(body, bytes)
        .file_name(name)
        .mime_str("application/jsonl")
        .map_err(|error| Trouble::Record(error.to_string()))?;
    let form = Form::new().text("purpose", "batch");
    let form = match expires {
        true => form
            .text("expires_after[anchor]", "created_at")
            .text("expires_after[seconds]", KEPT_SECONDS),
        false => form,
    };
    Ok(form.part("file", file))
}

/// Reads the lines and hands them over. A file of another size than the record says is never completed.
fn read(
    store: &Store,
    (new, id, bytes): (&NewBatch, BatchId, u64),
    out: &Sender<Result<Bytes, Error>>,
) -> Result<(), String> {
    let (mut part, mut sent, mut after) = (Vec::with_capacity(PART), 0u64, AttemptId(0));
    loop {
        let page =
            store.input_lines(id, (after, PAGE)).map_err(|error| fail(out, error.to_string()))?;
        let Some(last) = page.last() else { break };
        after = last.attempt;
        for line in &page {
            let custom_id = custom_id(&new.token, line.attempt);
            write_input_line(&mut part, &custom_id, new.endpoint, &line.body);
            if part.len() >= PART {
                sent += part.len() as u64;
                let full = std::mem::replace(&mut part, Vec::with_capacity(PART));
                if out.blocking_send(Ok(Bytes::from(full))).is_err() {
                    // The connection broke, which is told by whoever has it.
                    return Ok(());
                }
            }
        }
    }
    sent += part.len() as u64;
    if sent != bytes {
        let words =
            format!("the input file of batch {id} has {sent} bytes where {bytes} are on record");
        return Err(fail(out, words));
    }
    // As above.
    let _ = out.blocking_send(Ok(Bytes::from(part)));
    Ok(())
}

fn fail(out: &Sender<Result<Bytes, Error>>, words: String) -> String {
    let _ = out.blocking_send(Err(Error::other("the record cannot be read")));
    words
}

#[cfg(test)]
mod tests;
