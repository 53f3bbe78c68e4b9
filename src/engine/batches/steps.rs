//! The calls of a batch's life but for uploading and collecting: create, find, look, cancel.
//!
//! Each makes one call (a listing: one a page) and says what came of it; what that means is decided
//! elsewhere. Nothing is repeated here.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use url::Url;

use super::slot::SlotId;
use crate::domain::FailureClass;
use crate::engine::secret::Secret;
use crate::engine::transport::{Call, NoReply, Reply, Transport};
use crate::engine::world::Hands;
use crate::provider::ReplyHeaders;
use crate::provider::batch::{
    BatchObject, BatchUrls, FileObject, NewBatch, Page, Refusal, RefusalOf, Unreadable,
    batch_object, batch_page, create_body, file_name, file_page, refusal,
};
use crate::provider::catalog::BatchProfile;
use crate::store::ResultLine;

/// Pages of a listing that are read before it is taken for one without an end.
const MOST_PAGES: usize = 20_000;

/// A server with the Batch API, or one that may have it.
#[derive(Clone, Debug)]
pub struct BatchServer {
    /// Where its files and batches are.
    pub urls: BatchUrls,
    /// Key and the like; no content type.
    pub headers: HeaderMap,
    /// The key that stands in the headers.
    pub key: Option<Secret>,
    /// What it allows.
    pub profile: BatchProfile,
    /// Whether it forgets everything when this process ends.
    pub is_embedded: bool,
}

impl BatchServer {
    /// Asks the server to end a batch, outside of any run. The error is in words.
    pub async fn ask_to_cancel(&self, transport: &Transport, id: &str) -> Result<(), String> {
        let server = std::sync::Arc::new(self.clone());
        let counter = Counter { transport: transport.clone(), server, hands: Hands::Threads };
        counter.cancel(id).await.map(drop).map_err(|trouble| trouble.words())
    }
}

/// Something came of a call about batches.
pub(in crate::engine) enum Stepped {
    /// Of a batch's step.
    Step(SlotId, Box<Did>),
    /// Of asking a lane's server whether it has batches.
    Probe(usize, Result<(), Trouble>),
}

/// What was done, and what came of it.
pub(in crate::engine) enum Did {
    /// The input file was sent: its id.
    Upload(Result<String, Trouble>),
    /// The files were listed: the id of the one that was sent before.
    FindFile(Result<Option<String>, Trouble>),
    /// The job was created.
    Create(Result<Seen, Trouble>),
    /// The batches were listed: the one that was created before.
    FindBatch(Result<Option<Seen>, Trouble>),
    /// The batch was looked at.
    Look(Result<Seen, Trouble>),
    /// The provider was asked to end it; what it said, if that can be read.
    Cancel(Result<Option<Seen>, Trouble>),
    /// The provider does not know the batch by its id: what else it knows of it.
    Trace(Result<Trace, Trouble>),
    /// Some lines of its results. They are read on once this is answered.
    Lines(Vec<ResultLine>, Option<(usize, Bytes)>, oneshot::Sender<()>),
    /// Its results were read to the end.
    Collect(Result<(), Trouble>),
}

/// What is left at a provider of a batch that it does not know by its id.
pub(in crate::engine) enum Trace {
    /// It stands in the list.
    Listed(Box<Seen>),
    /// Its input file is there.
    FileOnly,
    /// Nothing.
    Nothing,
}

/// A batch as the provider told of it.
pub(in crate::engine) struct Seen {
    pub(in crate::engine) object: BatchObject,
    pub(in crate::engine) raw: Bytes,
}

/// Why a step failed.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Trouble {
    /// The provider refused.
    Refused(RefusalOf),
    /// No whole reply came.
    NoReply(NoReply),
    /// A reply came that cannot be read.
    Unreadable(String),
    /// Results ended in the middle of a line.
    CutShort,
    /// The record could not be read, or contradicts itself.
    Record(String),
}

impl Trouble {
    /// Returns what happened, in one line.
    pub(in crate::engine) fn words(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.message.clone(),
            Self::NoReply(no_reply) => no_reply.message.clone(),
            Self::Unreadable(words) | Self::Record(words) => words.clone(),
            Self::CutShort => "the results end in the middle of a line".to_owned(),
        }
    }

    /// Returns how long the provider asked to wait.
    pub(in crate::engine) fn asked_pause(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::NoReply(_) | Self::Unreadable(_) | Self::CutShort | Self::Record(_) => None,
        }
    }

    pub(in crate::engine) fn is_unreachable(&self) -> bool {
        matches!(self, Self::NoReply(NoReply { class: FailureClass::Unreachable, .. }))
    }
}

impl From<NoReply> for Trouble {
    fn from(no_reply: NoReply) -> Self {
        Self::NoReply(no_reply)
    }
}

impl From<Unreadable> for Trouble {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable.to_string())
    }
}

/// Whoever makes calls at one server.
#[derive(Clone)]
pub(in crate::engine) struct Counter {
    pub(in crate::engine) transport: Transport,
    pub(in crate::engine) server: std::sync::Arc<BatchServer>,
    pub(in crate::engine) hands: Hands,
}

/// Starts a step. What came of it is sent even where the step breaks off.
pub(in crate::engine) fn hand(
    (slot, hands): (SlotId, Hands),
    out: UnboundedSender<Stepped>,
    broken: impl FnOnce(Trouble) -> Did + Send + 'static,
    work: impl Future<Output = Did> + Send + 'static,
) -> AbortHandle {
    let work = hands.spawn(work);
    let handle = work.abort_handle();
    hands.spawn(async move {
        let did = match work.await {
            Ok(did) => did,
            Err(error) if error.is_cancelled() => return,
            Err(_) => broken(Trouble::Record(
                "a step broke off; this is a mistake in overnight".to_owned(),
            )),
        };
        // Nobody listens only once the run has ended.
        let _ = out.send(Stepped::Step(slot, Box::new(did)));
    });
    handle
}

impl Counter {
    pub(in crate::engine) async fn create(&self, new: &NewBatch<'_>) -> Result<Seen, Trouble> {
        let reply = self.post(self.server.urls.batches(), create_body(new)).await?;
        seen(Self::whole(reply)?)
    }

    pub(in crate::engine) async fn look(&self, id: &str) -> Result<Seen, Trouble> {
        let reply = self.get(self.server.urls.batch(id)).await?;
        seen(Self::whole(reply)?)
    }

    pub(in crate::engine) async fn cancel(&self, id: &str) -> Result<Option<Seen>, Trouble> {
        let reply = self.post(self.server.urls.cancel(id), Vec::new()).await?;
        Ok(seen(Self::whole(reply)?).ok())
    }

    /// Asks for the first page of batches, which a server that has none does not have either.
    pub(in crate::engine) async fn probe(&self) -> Result<(), Trouble> {
        let reply = self.get(self.server.urls.batches_page(None)).await?;
        batch_page(&Self::whole(reply)?.body)?;
        Ok(())
    }

    /// Looks through all files for the one with this name and size.
    pub(in crate::engine) async fn find_file(
        &self,
        (name, bytes): (&str, u64),
    ) -> Result<Option<String>, Trouble> {
        let is_it = |file: &FileObject| {
            file.filename.as_deref() == Some(name)
                && file.bytes.is_none_or(|found| found == bytes)
                && file.status.as_deref() != Some("error")
        };
        let urls = &self.server.urls;
        let found = self.find(|after| urls.files_page(after), file_page, is_it).await?;
        Ok(found.map(|(file, _)| file.id))
    }

    /// Looks through all batches for the one with this token, or made of this file.
    pub(in crate::engine) async fn find_batch(
        &self,
        (token, file): (&str, Option<&str>),
    ) -> Result<Option<Seen>, Trouble> {
        let is_it = |batch: &BatchObject| {
            batch.token.as_deref() == Some(token)
                || (batch.token.is_none()
                    && file.is_some()
                    && batch.input_file_id.as_deref() == file)
        };
        let urls = &self.server.urls;
        let found = self.find(|after| urls.batches_page(after), batch_page, is_it).await?;
        Ok(found.map(|(object, raw)| Seen { object, raw }))
    }

    /// Looks for what is left of a batch: in the list, and its input file by its id and by its name.
    pub(in crate::engine) async fn trace(
        &self,
        (token, file): (&str, Option<&str>),
        bytes: u64,
    ) -> Result<Trace, Trouble> {
        if let Some(seen) = self.find_batch((token, file)).await? {
            return Ok(Trace::Listed(Box::new(seen)));
        }
        let has_file = match file {
            Some(file) => self.has_file(file).await?,
            None => false,
        };
        let is_there = has_file
            || match self.find_file((&file_name(token), bytes)).await {
                Ok(found) => found.is_some(),
                // A server without that list says nothing by it.
                Err(Trouble::Refused(_) | Trouble::Unreadable(_)) => false,
                Err(trouble) => return Err(trouble),
            };
        Ok(if is_there { Trace::FileOnly } else { Trace::Nothing })
    }

    /// Says whether the provider has a file.
    async fn has_file(&self, id: &str) -> Result<bool, Trouble> {
        let reply = self.get(self.server.urls.file(id)).await?;
        match Self::whole(reply) {
            Ok(_) => Ok(true),
            Err(Trouble::Refused(RefusalOf {
                kind: Refusal::NotFound | Refusal::NoSuchApi,
                ..
            })) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    async fn find<T>(
        &self,
        url: impl Fn(Option<&str>) -> Url,
        read: impl Fn(&[u8]) -> Result<Page<T>, Unreadable>,
        is_it: impl Fn(&T) -> bool,
    ) -> Result<Option<(T, Bytes)>, Trouble> {
        let mut after: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let reply = Self::whole(self.get(url(after.as_deref())).await?)?;
            let page = read(&reply.body)?;
            if let Some(found) = page.items.into_iter().find(|item| is_it(&item.object)) {
                return Ok(Some((found.object, Bytes::from(found.raw))));
            }
            match page.next {
                None => return Ok(None),
                Some(next) if after.as_ref() == Some(&next) => break,
                Some(next) => after = Some(next),
            }
        }
        Err(Trouble::Unreadable("the provider's listing has no end".to_owned()))
    }

    async fn get(&self, url: Url) -> Result<Reply, Trouble> {
        let call = Call { url, headers: self.server.headers.clone(), body: Bytes::new() };
        Ok(self.transport.get(call, self.server.key.as_ref()).await?)
    }

    async fn post(&self, url: Url, body: Vec<u8>) -> Result<Reply, Trouble> {
        let mut headers = self.server.headers.clone();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let call = Call { url, headers, body: Bytes::from(body) };
        Ok(self.transport.control(call, self.server.key.as_ref()).await?)
    }

    /// Returns a reply that is a success.
    pub(in crate::engine) fn whole(reply: Reply) -> Result<Reply, Trouble> {
        match reply.status {
            200..=299 => Ok(reply),
            status => {
                let headers = ReplyHeaders::from_map(&reply.headers);
                Err(Trouble::Refused(refusal(status, &headers, &reply.body)))
            }
        }
    }
}

fn seen(reply: Reply) -> Result<Seen, Trouble> {
    Ok(Seen { object: batch_object(&reply.body)?, raw: reply.body })
}
