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
use crate::engine::world::Hands;
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
        let lines = Reading { batch: id, new: Arc::clone(new), bytes, hands: self.hands };
        let reading = self.hands.spawn(lines.hand_over(store, parts));
        let form = form((file_name(&new.token), bytes), stream, expires)?;
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

/// Reads the lines of an input file.
struct Reading {
    batch: BatchId,
    new: Arc<NewBatch>,
    /// What the file has on record.
    bytes: u64,
    hands: Hands,
}

impl Reading {
    /// Reads the lines and hands them over. A file of another size than the record says is never completed.
    async fn hand_over(
        self,
        store: Store,
        out: Sender<Result<Bytes, Error>>,
    ) -> Result<(), String> {
        let (mut store, mut part) = (store, Vec::with_capacity(PART));
        let (mut sent, mut after) = (0u64, AttemptId(0));
        loop {
            let batch = self.batch;
            let page = self.hands.offload(move || (store.input_lines(batch, (after, PAGE)), store));
            let Some((page, back)) = page.await else {
                return Err(fail(&out, "reading the record broke off".to_owned()).await);
            };
            store = back;
            let page = match page {
                Ok(page) => page,
                Err(error) => return Err(fail(&out, error.to_string()).await),
            };
            let Some(last) = page.last() else { break };
            after = last.attempt;
            for line in &page {
                let custom_id = custom_id(&self.new.token, line.attempt);
                write_input_line(&mut part, &custom_id, self.new.endpoint, &line.body);
                if part.len() >= PART {
                    sent += part.len() as u64;
                    let full = std::mem::replace(&mut part, Vec::with_capacity(PART));
                    if out.send(Ok(Bytes::from(full))).await.is_err() {
                        // The connection broke, which is told by whoever has it.
                        return Ok(());
                    }
                }
            }
        }
        sent += part.len() as u64;
        if sent != self.bytes {
            let words = format!(
                "the input file of batch {} has {sent} bytes where {} are on record",
                self.batch, self.bytes
            );
            return Err(fail(&out, words).await);
        }
        // As above.
        let _ = out.send(Ok(Bytes::from(part))).await;
        Ok(())
    }
}

async fn fail(out: &Sender<Result<Bytes, Error>>, words: String) -> String {
    let _ = out.send(Err(Error::other("the record cannot be read"))).await;
    words
}

#[cfg(test)]
mod tests;
