//! Looks at requests that are due, one by one: renders, counts, prices, and notes what is odd about them.
//!
//! Whoever looks has a tally of its own, so that several can look at once and be put together at the end. Nothing
//! of a row is kept but the messages of the first few.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::AddAssign;
use std::sync::{Mutex, PoisonError};

use super::expect::Expected;
use crate::domain::{Message, NanoUsd, Price, PromptSpec, RowId, Structured};
use crate::engine::TaskParts;
use crate::machine::render::is_blank;
use crate::machine::tokens::Memo;
use crate::provider::Encoder;
use crate::provider::batch::input_line_bytes;
use crate::store::DueRequest;

/// The `custom_id` of a line in a batch's input file: a token, a dash and the number of an attempt.
const CUSTOM_ID_BYTES: u64 = 20 + 1 + 8;
/// Requests whose messages are kept, and the most bytes of each that are.
const KEPT: usize = 24;
const KEPT_BYTES: usize = 400_000;
/// A cost is worked out for so many equal requests at once: a share of a nano-USD or of a token is not lost.
const TIMES: u64 = 1_000;

/// What requests come to. Sums are numbers with a point, so that those of a sample can be made larger.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Requests that would be sent.
    pub(super) requests: f64,
    /// Their input tokens as a run counts them.
    pub(super) counted: f64,
    /// Their input tokens as they are billed.
    pub(super) input: f64,
    /// The most that their input can be billed as.
    pub(super) most_input: f64,
    /// The most that their output can be; not a number where no limit is known.
    pub(super) most_output: f64,
    /// The lines of a batch's input file.
    pub(super) line_bytes: f64,
    pub(super) calls: Money,
    pub(super) batch: Money,
}

/// What requests cost, in nano-USD; not a number where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Money {
    pub(super) about: f64,
    pub(super) most: f64,
}

impl Sums {
    /// Returns so many times as much.
    pub(super) fn times(self, factor: f64) -> Self {
        let money = |money: Money| Money { about: money.about * factor, most: money.most * factor };
        Self {
            requests: self.requests * factor,
            counted: self.counted * factor,
            input: self.input * factor,
            most_input: self.most_input * factor,
            most_output: self.most_output * factor,
            line_bytes: self.line_bytes * factor,
            calls: money(self.calls),
            batch: money(self.batch),
        }
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        let money = |a: &mut Money, b: Money| {
            a.about += b.about;
            a.most += b.most;
        };
        self.requests += other.requests;
        self.counted += other.counted;
        self.input += other.input;
        self.most_input += other.most_input;
        self.most_output += other.most_output;
        self.line_bytes += other.line_bytes;
        money(&mut self.calls, other.calls);
        money(&mut self.batch, other.batch);
    }
}

/// A row that something is to be said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) position: i64,
    pub(super) row: RowId,
}

/// What is odd about requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// Requests that were looked at.
    pub(super) looked: u64,
    /// Those that are the same as one before them, and share its reply.
    pub(super) same: u64,
    /// Those whose messages are as if the row were empty, and the first of them.
    pub(super) empty: (u64, Option<Spot>),
    /// Those that cannot be rendered, the first of them and why.
    pub(super) failed: (u64, Option<(Spot, String)>),
    /// The one with the most input tokens.
    pub(super) longest: Option<(u64, Spot)>,
    /// Those with more input tokens than the model takes.
    pub(super) too_long: u64,
    /// The messages of the first few.
    pub(super) kept: Vec<Vec<Message>>,
}

/// What somebody who looked has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sums: Sums,
    pub(super) notes: Notes,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sums += other.sums;
        self.notes += other.notes;
    }
}

impl AddAssign for Notes {
    fn add_assign(&mut self, other: Self) {
        let first = |a: Option<Spot>, b: Option<Spot>| a.into_iter().chain(b).min();
        self.looked += other.looked;
        self.same += other.same;
        self.empty = (self.empty.0 + other.empty.0, first(self.empty.1, other.empty.1));
        let failed = [self.failed.1.take(), other.failed.1];
        let failed = failed.into_iter().flatten().min_by_key(|(spot, _)| *spot);
        self.failed = (self.failed.0 + other.failed.0, failed);
        // Of two that are as long, the one further up.
        let longest = self.longest.into_iter().chain(other.longest);
        self.longest = longest.max_by_key(|(tokens, spot)| (*tokens, std::cmp::Reverse(*spot)));
        self.too_long += other.too_long;
        self.kept.extend(other.kept);
        self.kept.truncate(KEPT);
    }
}

/// What is the same for all who look at a prompt's requests.
pub(super) struct Ground<'a> {
    spec: &'a PromptSpec,
    parts: &'a TaskParts,
    encoder: &'a Encoder,
    expected: &'a Expected,
    /// What a row of empty cells renders to, where the template asks for any.
    empty: Option<Vec<Message>>,
    /// The bodies that were seen, where all are.
    bodies: Option<Mutex<HashSet<u64>>>,
}

impl<'a> Ground<'a> {
    /// Prepares to look at requests of a table with these columns. Only where all of them are looked at can those that are
    /// the same be told.
    pub(super) fn new(
        spec: &'a PromptSpec,
        parts: &'a TaskParts,
        expected: &'a Expected,
        (columns, are_all): (&[String], bool),
    ) -> Self {
        let in_words = parts.in_words.as_ref().filter(|_| expected.form == Structured::Words);
        let blank: serde_json::Map<String, serde_json::Value> =
            columns.iter().map(|column| (column.clone(), "".into())).collect();
        let blank = serde_json::Value::Object(blank).to_string();
        let asks = !parts.template.columns().is_empty();
        Self {
            spec,
            parts,
            encoder: in_words.unwrap_or(&parts.encoder),
            expected,
            empty: asks.then(|| parts.template.render(&blank).ok()).flatten(),
            bodies: are_all.then(Mutex::default),
        }
    }

    /// Returns somebody who looks.
    pub(super) fn looker(&'a self) -> Looker<'a> {
        Looker { ground: self, memo: Memo::new(&self.expected.counter), tally: Tally::default() }
    }

    fn is_known(&self, body: &[u8]) -> bool {
        let Some(bodies) = &self.bodies else { return false };
        let mut hash = DefaultHasher::new();
        body.hash(&mut hash);
        !bodies.lock().unwrap_or_else(PoisonError::into_inner).insert(hash.finish())
    }
}

/// Looks at requests, one after another.
pub(super) struct Looker<'a> {
    ground: &'a Ground<'a>,
    memo: Memo<'a>,
    pub(super) tally: Tally,
}

impl Looker<'_> {
    /// Looks at a request that is due with a token limit.
    pub(super) fn look(&mut self, due: &DueRequest, max_tokens: Option<u32>) {
        let (ground, notes) = (self.ground, &mut self.tally.notes);
        let spot = Spot { position: due.position, row: due.row };
        notes.looked += 1;
        let messages = match ground.parts.template.render(&due.cells) {
            Ok(messages) => messages,
            Err(error) => {
                let one = (1, Some((spot, error.to_string())));
                *notes += Notes { failed: one, ..Notes::default() };
                return;
            }
        };
        if ground.empty.as_ref() == Some(&messages) || is_blank(&messages) {
            *notes += Notes { empty: (1, Some(spot)), ..Notes::default() };
        }
        let body = ground.encoder.body(&messages, max_tokens);
        if ground.is_known(&body) {
            notes.same += 1;
            return;
        }
        let counted = self.memo.count(&messages);
        self.tally.sums += sums(ground, (&messages, &body, counted), max_tokens);
        let input = ground.expected.input(counted);
        let most = ground.expected.prices.max_input_tokens;
        *notes += Notes {
            longest: Some((input, spot)),
            too_long: u64::from(most.is_some_and(|most| input > most)),
            ..Notes::default()
        };
        let bytes: usize = messages.iter().map(|message| message.text.len()).sum();
        if notes.kept.len() < KEPT && bytes <= KEPT_BYTES {
            notes.kept.push(messages);
        }
    }
}

/// Returns what one request comes to.
fn sums(
    ground: &Ground<'_>,
    (messages, body, counted): (&[Message], &[u8], u64),
    max_tokens: Option<u32>,
) -> Sums {
    let expected = ground.expected;
    let usage = expected.usage(counted, TIMES);
    let most_input =
        expected.counter.most_of_counted(messages, counted, expected.calibration.as_ref());
    let most_output = max_tokens.map(u64::from).or(expected.prices.max_output_tokens);
    let nano = |cost: Option<NanoUsd>| cost.map_or(f64::NAN, |NanoUsd(cost)| cost as f64);
    let money = |price: Option<Price>| Money {
        about: nano(price.map(|price| price.of_sum(usage, TIMES))) / TIMES as f64,
        most: nano(price.zip(most_output).map(|(price, output)| price.most(most_input, output))),
    };
    Sums {
        requests: 1.0,
        counted: counted as f64,
        input: usage.input as f64 / TIMES as f64,
        most_input: most_input as f64,
        most_output: most_output.map_or(f64::NAN, |most| most as f64),
        line_bytes: (CUSTOM_ID_BYTES + input_line_bytes("", ground.spec.endpoint, body)) as f64,
        calls: money(expected.prices.realtime),
        batch: money(expected.prices.batch),
    }
}
