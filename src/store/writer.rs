//! The one thread that writes during a run.
//!
//! Orders come in by a channel; the thread takes all that have queued, applies them in one
//! transaction, commits, and only then hands out the receipts. So a commit costs what a disk flush
//! costs however many orders share it, and the busier the run, the larger the groups: nothing is tuned.
//!
//! ```text
//!   orders ──▶ [take all that wait] ──▶ BEGIN … apply … COMMIT (fsync) ──▶ receipts
//! ```
//!
//! A promise that cannot be committed is refused, so its call is never made. A settlement holds a
//! reply that was paid for, so it is tried again until the disk takes it or patience ends.
//!
//! A flush that fails may have lost what it was to flush, and a second one that goes well proves nothing of it. So
//! nothing is ever flushed again: SQLite takes a transaction whose flush has failed back before anything can be
//! read of it, and the next try writes all its frames anew, over the same place, before they are flushed. The same
//! holds of folding the WAL back: what could not be flushed stays in the WAL and is written again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use rusqlite::TransactionBehavior;

use super::batches::{self, BatchChange};
use super::book::Book;
use super::collect::{self, LineSettled, ResultLine};
use super::fuse::{Fuse, Spark};
use super::ledger::{self, Settlement};
use super::open::WAITS;
use super::promise::{Promise, Promised};
use super::{Store, StoreError};
use crate::domain::{
    BatchId, BatchStatus, DictionaryId, FailureClass, PromptId, RequestId, RowId, State, UnixMs,
};

/// Orders that one commit may hold.
const GROUP: usize = 1024;
/// Requests without a line that are settled in one order.
const MISSING: u32 = 500;
/// How often a group with settlements is tried before its replies are given up, over the store's patience.
const TRIES: u32 = 60;

/// One thing to put on record. The ticket comes back with the receipt.
pub enum Order {
    /// An attempt is about to be made.
    Promise(u64, Box<Promise>),
    /// An attempt ended.
    Settle(u64, Box<Settlement>),
    /// A request shares what its twin has come to.
    Share {
        /// Comes back with the receipt.
        ticket: u64,
        /// The request.
        request: RequestId,
        /// Whose reply it shares.
        twin: RequestId,
    },
    /// A batch takes its next step, or was looked at.
    ChangeBatch(u64, Box<BatchChange>),
    /// Lines of a batch's results.
    Lines {
        /// Comes back with the receipt.
        ticket: u64,
        /// The batch.
        batch: BatchId,
        /// The lines; shared, because whoever ordered reads them again with the receipt.
        lines: Arc<Vec<ResultLine>>,
        /// Now.
        at: UnixMs,
    },
    /// The next requests of a batch that got no line.
    Missing {
        /// Comes back with the receipt.
        ticket: u64,
        /// The batch.
        batch: BatchId,
        /// What they failed with.
        class: FailureClass,
        /// The same in words.
        error: String,
        /// Now.
        at: UnixMs,
    },
    /// How many tokens a provider lets wait for a model.
    QueueLimit {
        /// Comes back with the receipt.
        ticket: u64,
        /// The server and the model.
        of: (String, String),
        /// The tokens.
        tokens: u64,
        /// Now.
        at: UnixMs,
    },
    /// A row's request could not be made.
    NotRendered {
        /// Comes back with the receipt.
        ticket: u64,
        /// The row and the prompt.
        of: (RowId, PromptId),
        /// The request, where one was made before.
        existing: Option<RequestId>,
        /// Why, without a word of the row's contents.
        error: String,
    },
    /// A prompt's server takes no JSON Schema.
    AskInWords {
        /// Comes back with the receipt.
        ticket: u64,
        /// The prompt.
        prompt: PromptId,
        /// Now.
        at: UnixMs,
    },
    /// No live row up to this one is without a request for a prompt.
    AskedUpto {
        /// Comes back with the receipt.
        ticket: u64,
        /// The prompt.
        prompt: PromptId,
        /// The row.
        row: RowId,
    },
    /// A dictionary for what follows.
    Dictionary {
        /// Comes back with the receipt.
        ticket: u64,
        /// Its prompt.
        prompt: PromptId,
        /// `body` or `reply`.
        kind: &'static str,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl Order {
    fn ticket(&self) -> u64 {
        match self {
            Self::Promise(ticket, _)
            | Self::Settle(ticket, _)
            | Self::ChangeBatch(ticket, _)
            | Self::Lines { ticket, .. }
            | Self::Missing { ticket, .. }
            | Self::QueueLimit { ticket, .. }
            | Self::Share { ticket, .. }
            | Self::NotRendered { ticket, .. }
            | Self::AskInWords { ticket, .. }
            | Self::AskedUpto { ticket, .. }
            | Self::Dictionary { ticket, .. } => *ticket,
        }
    }

    /// Says whether it holds something that was paid for, or follows from it.
    fn must_land(&self) -> bool {
        match self {
            Self::Settle(..) | Self::ChangeBatch(..) | Self::Lines { .. } => true,
            Self::Promise(..)
            | Self::Missing { .. }
            | Self::QueueLimit { .. }
            | Self::Share { .. }
            | Self::NotRendered { .. }
            | Self::AskInWords { .. }
            | Self::AskedUpto { .. }
            | Self::Dictionary { .. } => false,
        }
    }
}

/// What came of an order. Everything but [`Receipt::Trouble`] and [`Receipt::Refused`] is on the disk.
#[derive(Debug)]
pub enum Receipt {
    /// Of a promise.
    Promised(u64, Promised),
    /// Of a settlement or a sharing: the request's state.
    Settled(u64, State),
    /// Of a batch's step: its status now.
    BatchChanged(u64, BatchStatus),
    /// Of lines, or of requests that got none: what became of them.
    Lines(u64, Vec<LineSettled>),
    /// Of a provider's limit.
    QueueLimit(u64),
    /// Of a row whose request could not be made.
    NotRendered(u64, RequestId),
    /// Of a prompt that is asked in words from now on.
    AsksInWords(u64),
    /// Of how far a prompt's rows have requests.
    AskedUpto(u64),
    /// Of a dictionary.
    Dictionary(u64, DictionaryId),
    /// The order was not carried out and will not be.
    Refused(u64, String),
    /// A commit failed and is tried again; nothing is lost yet.
    Trouble(String),
}

/// The handle on whoever writes: a thread, or the caller's own turns.
pub struct Writer {
    orders: Option<Sender<Order>>,
    /// Tells whoever writes by turns that there is something to write, or nothing any more.
    stir: Option<Box<dyn Fn() + Send + Sync>>,
    thread: Option<JoinHandle<Store>>,
}

impl Writer {
    /// Moves a store into its own thread. `receipts` is called there after every commit.
    pub fn start(
        store: Store,
        receipts: impl Fn(Vec<Receipt>) + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_with(store, receipts, None)
    }

    /// The same, for a test that may want it to break off.
    #[doc(hidden)]
    pub fn start_with(
        store: Store,
        receipts: impl Fn(Vec<Receipt>) + Send + 'static,
        fuse: Option<Fuse>,
    ) -> std::io::Result<Self> {
        let (sender, orders) = channel();
        let writing = Writing { store, orders, receipts: Box::new(receipts) };
        let thread = std::thread::Builder::new()
            .name("overnight-writer".to_owned())
            .spawn(move || writing.work(fuse))?;
        Ok(Self { orders: Some(sender), stir: None, thread: Some(thread) })
    }

    /// Makes one without a thread, for a simulation: it is the caller who writes, turn by turn, when `stir` is called.
    #[doc(hidden)]
    pub fn by_hand(
        store: Store,
        receipts: impl Fn(Vec<Receipt>) + Send + 'static,
        stir: impl Fn() + Send + Sync + 'static,
    ) -> (Self, Writing) {
        let (sender, orders) = channel();
        let writing = Writing { store, orders, receipts: Box::new(receipts) };
        (Self { orders: Some(sender), stir: Some(Box::new(stir)), thread: None }, writing)
    }

    /// Hands in an order. Its receipt comes once it is on the disk.
    pub fn send(&self, order: Order) {
        // A send fails only after `finish`, or if the thread is gone; then no receipt comes and the run says so.
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
        if let Some(stir) = &self.stir {
            stir();
        }
    }

    /// Waits until everything handed in is written and returns the store; `None` if the thread is gone.
    pub fn finish(mut self) -> Option<Store> {
        drop(self.orders.take());
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(stir) = &self.stir {
            stir();
        }
    }
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Orders were carried out, in one commit.
    Wrote,
    /// Nothing waited.
    Nothing,
    /// Nothing waits, and nothing can come any more.
    Over,
}

/// The side that writes.
pub struct Writing {
    store: Store,
    orders: Receiver<Order>,
    receipts: Box<dyn Fn(Vec<Receipt>) + Send>,
}

impl Writing {
    fn work(mut self, mut fuse: Option<Fuse>) -> Store {
        let most = fuse.as_ref().map_or(GROUP, |fuse| fuse.group);
        while let Ok(first) = self.orders.recv() {
            let group = self.gather(first, most);
            let spark = fuse.as_mut().map_or(Spark::Far, Fuse::burn);
            match spark {
                Spark::Far => write_group(&mut self.store, group, &self.receipts),
                Spark::AtLast => write_group(&mut self.store, group, &|_| ()),
                Spark::Burnt => {}
            }
            if spark != Spark::Far {
                if let Some(fuse) = fuse {
                    (fuse.burnt)();
                }
                break;
            }
        }
        self.store
    }

    /// Carries out what waits, at most so many orders.
    pub fn turn(&mut self, most: usize) -> Turn {
        match self.orders.try_recv() {
            Ok(first) => {
                let group = self.gather(first, most);
                write_group(&mut self.store, group, &self.receipts);
                Turn::Wrote
            }
            Err(TryRecvError::Empty) => Turn::Nothing,
            Err(TryRecvError::Disconnected) => Turn::Over,
        }
    }

    /// Gives the store back; what still waits is lost.
    pub fn into_store(self) -> Store {
        self.store
    }

    /// Takes what has queued behind an order.
    fn gather(&self, first: Order, most: usize) -> Vec<Order> {
        let mut group = vec![first];
        while group.len() < most {
            match self.orders.try_recv() {
                Ok(order) => group.push(order),
                Err(_) => break,
            }
        }
        group
    }
}

fn write_group(store: &mut Store, mut group: Vec<Order>, receipts: &impl Fn(Vec<Receipt>)) {
    let (mut tries, mut waits) = (0, 0);
    if let Err(error) = store.must_be_in_place() {
        // What has been paid for still goes to the file that we have, wherever it is now.
        group = only_what_must_land(group, (receipts, &chain(&error)));
    }
    while !group.is_empty() {
        let error = match commit(store, &group) {
            Ok(done) => return receipts(done),
            Err(error) => error,
        };
        let words = chain(&error);
        if !error.may_pass() {
            return one_by_one(store, group, (receipts, &words));
        }
        if matches!(error, StoreError::Locked { .. }) && waits < WAITS {
            // Somebody adds a big file: everything waits, nothing is refused.
            waits += 1;
            tell_once(waits, (receipts, words));
            continue;
        }
        // What has not been sent is not sent now; what has been paid for is kept trying.
        group = only_what_must_land(group, (receipts, &words));
        if group.is_empty() {
            return;
        }
        tries += 1;
        if tries == TRIES {
            return refuse(&group, (receipts, &words));
        }
        tell_once(tries, (receipts, words));
        std::thread::sleep(store.patience / TRIES);
    }
}

/// Refuses what has not been sent, and returns what has been paid for.
fn only_what_must_land(
    group: Vec<Order>,
    (receipts, words): (&impl Fn(Vec<Receipt>), &str),
) -> Vec<Order> {
    let (kept, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(Order::must_land);
    refuse(&refused, (receipts, words));
    kept
}

/// A trouble is told when it begins, and not at every try.
fn tell_once(tries: u32, (receipts, words): (&impl Fn(Vec<Receipt>), String)) {
    if tries == 1 {
        receipts(vec![Receipt::Trouble(words)]);
    }
}

/// One order that the record refuses must not take the others with it, nor make them less patient.
fn one_by_one(
    store: &mut Store,
    group: Vec<Order>,
    (receipts, words): (&impl Fn(Vec<Receipt>), &str),
) {
    match group.len() {
        1 => refuse(&group, (receipts, words)),
        _ => group.into_iter().for_each(|order| write_group(store, vec![order], receipts)),
    }
}

fn refuse(orders: &[Order], (receipts, words): (&impl Fn(Vec<Receipt>), &str)) {
    let refused = |order: &Order| Receipt::Refused(order.ticket(), words.to_owned());
    receipts(orders.iter().map(refused).collect());
}

fn commit(store: &mut Store, group: &[Order]) -> Result<Vec<Receipt>, StoreError> {
    let done =
        store.conn.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|tx| {
            let book = Book::open(&tx);
            let done =
                group.iter().map(|order| apply(&book, order)).collect::<Result<Vec<_>, _>>()?;
            book.close()?;
            tx.commit()?;
            Ok(done)
        });
    done.map_err(|error| store.named(error))
}

fn apply(book: &Book<'_>, order: &Order) -> rusqlite::Result<Receipt> {
    Ok(match order {
        Order::Promise(ticket, promise) => {
            Receipt::Promised(*ticket, ledger::promise(book, promise)?)
        }
        Order::Settle(ticket, settled) => {
            Receipt::Settled(*ticket, ledger::settle(book, settled, None)?)
        }
        Order::ChangeBatch(ticket, change) => {
            Receipt::BatchChanged(*ticket, batches::change(book, change)?)
        }
        Order::Lines { ticket, batch, lines, at } => {
            Receipt::Lines(*ticket, collect::lines(book, *batch, (lines, *at))?)
        }
        Order::Missing { ticket, batch, class, error, at } => {
            let with = ((*class, error.as_str()), MISSING, *at);
            Receipt::Lines(*ticket, collect::missing(book, *batch, with)?)
        }
        Order::QueueLimit { ticket, of: (server, model), tokens, at } => {
            batches::remember_queue(book, (server, model), (*tokens, *at))?;
            Receipt::QueueLimit(*ticket)
        }
        Order::Share { ticket, request, twin } => {
            Receipt::Settled(*ticket, ledger::share_now(book, *request, *twin)?)
        }
        Order::NotRendered { ticket, of, existing, error } => {
            Receipt::NotRendered(*ticket, ledger::not_rendered(book, *of, *existing, error)?)
        }
        Order::AskInWords { ticket, prompt, at } => {
            ledger::ask_in_words(book, *prompt, *at)?;
            Receipt::AsksInWords(*ticket)
        }
        Order::AskedUpto { ticket, prompt, row } => {
            ledger::asked_upto(book, *prompt, *row)?;
            Receipt::AskedUpto(*ticket)
        }
        Order::Dictionary { ticket, prompt, kind, bytes } => {
            Receipt::Dictionary(*ticket, ledger::dictionary(book, *prompt, kind, bytes)?)
        }
    })
}

fn chain(error: &StoreError) -> String {
    use std::error::Error;
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        words.push_str(": ");
        words.push_str(&source.to_string());
        cause = source.source();
    }
    words
}
