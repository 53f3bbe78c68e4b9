//! Counts and sums that are kept as the record changes, so that nobody has to read a million rows to know them.
//!
//! A [`Book`] is a connection within a transaction, with what the transaction has changed of the counts so far; they are
//! written by [`Book::close`], once before its commit, and not once a row. `request` and `attempt` stay the record: the
//! audit adds them up anew and holds the sums against them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Add, AddAssign, Deref, Neg, Sub};

use rusqlite::{Connection, Row, params, params_from_iter};

use super::batches;
use crate::domain::{BatchId, FailureClass, NanoUsd, Outcome, PromptId, State, Usage};

/// The attempts of a prompt that went one way: in this batch, or, as batch 0, as calls.
pub(super) type Way = (PromptId, i64);

/// A connection within a transaction that changes requests or attempts.
pub(super) struct Book<'c> {
    conn: &'c Connection,
    requests: RefCell<BTreeMap<(PromptId, &'static str, &'static str), i64>>,
    attempts: RefCell<BTreeMap<Way, Sums>>,
    seats: RefCell<BTreeMap<BatchId, Seats>>,
    batch: RefCell<Option<(String, BatchId)>>,
}

/// What requests have brought to a batch since it was last written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seats {
    /// How many.
    pub(super) requests: i64,
    /// The bytes of their lines.
    pub(super) bytes: i64,
    /// The input tokens that they are guessed to have.
    pub(super) tokens: i64,
}

impl Deref for Book<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

impl<'c> Book<'c> {
    /// Opens one on a connection that is within a transaction.
    pub(super) fn open(conn: &'c Connection) -> Self {
        Self {
            conn,
            requests: RefCell::default(),
            attempts: RefCell::default(),
            seats: RefCell::default(),
            batch: RefCell::default(),
        }
    }

    /// Counts a request that moves; one that is made comes from nowhere.
    pub(super) fn moved(&self, prompt: PromptId, from: Option<State>, to: State) {
        if from == Some(to) {
            return;
        }
        let mut requests = self.requests.borrow_mut();
        for (state, by) in from.map(|from| (from, -1)).into_iter().chain([(to, 1)]) {
            let class = state.class().map_or("", FailureClass::as_str);
            *requests.entry((prompt, state.as_str(), class)).or_default() += by;
        }
    }

    /// Counts an attempt that is made, with `from` as nothing, or that changes.
    pub(super) fn attempted(&self, way: Way, from: Sums, to: Sums) {
        *self.attempts.borrow_mut().entry(way).or_default() += to - from;
    }

    /// Counts a request that got a place in a batch.
    pub(super) fn seated(&self, batch: BatchId, seat: Seats) {
        let mut seats = self.seats.borrow_mut();
        let sum = seats.entry(batch).or_default();
        sum.requests += seat.requests;
        sum.bytes += seat.bytes;
        sum.tokens += seat.tokens;
    }

    /// Returns the batch of a token, if it was the last one to be asked for.
    pub(super) fn last_batch(&self, token: &str) -> Option<BatchId> {
        let batch = self.batch.borrow();
        batch.as_ref().filter(|(known, _)| known == token).map(|(_, batch)| *batch)
    }

    /// Remembers the batch of a token.
    pub(super) fn remember_batch(&self, token: &str, batch: BatchId) {
        *self.batch.borrow_mut() = Some((token.to_owned(), batch));
    }

    /// Writes what requests have brought to their batches. What moves a batch asks for this first.
    pub(super) fn close_seats(&self) -> rusqlite::Result<()> {
        let seats = std::mem::take(&mut *self.seats.borrow_mut());
        seats.into_iter().try_for_each(|(batch, sum)| batches::fill(self, batch, sum))
    }

    /// Writes all that has changed. To be called once, before the commit.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.close_seats()?;
        for ((prompt, state, class), by) in self.requests.take() {
            if by != 0 {
                self.conn
                    .prepare_cached(
                        "INSERT INTO request_count (prompt_id, state, error_class, requests) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
                    )?
                    .execute(params![prompt.0, state, class, by])?;
            }
        }
        self.conn.prepare_cached("DELETE FROM request_count WHERE requests = 0")?.execute([])?;
        for ((prompt, batch), sums) in self.attempts.take() {
            if sums != Sums::default() {
                sums.add_to(self.conn, (prompt, batch))?;
            }
        }
        Ok(())
    }
}

/// Names each sum once: its place in the table and what one attempt adds to it must not part.
macro_rules! sums {
    ($($(#[$about:meta])* $name:ident),+ $(,)?) => {
        /// What attempts add up to.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Sums {
            $($(#[$about])* pub(super) $name: i64),+
        }

        impl Sums {
            /// The columns, in their order.
            pub(super) const COLUMNS: &'static [&'static str] = &[$(stringify!($name)),+];

            /// Reads all columns.
            pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
                Ok(Self { $($name: row.get(stringify!($name))?),+ })
            }

            /// Lists each with its column.
            fn each(&self) -> [(&'static str, i64); Self::COLUMNS.len()] {
                [$((stringify!($name), self.$name)),+]
            }
        }

        impl Add for Sums {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name.saturating_add(other.$name)),+ }
            }
        }

        impl Neg for Sums {
            type Output = Self;

            fn neg(self) -> Self {
                Self { $($name: self.$name.saturating_neg()),+ }
            }
        }
    };
}

sums! {
    /// How many.
    attempts,
    /// Of them, those that were answered.
    answered,
    /// Replies that may be billed and whose cost is not known.
    unpriced,
    /// As the provider counted.
    input_tokens,
    /// The same.
    cached_tokens,
    /// The same.
    cache_write_tokens,
    /// The same.
    output_tokens,
    /// The same.
    reasoning_tokens,
    /// What they cost, as far as that is known.
    cost_nanousd,
    /// What is set aside for those whose cost is not known.
    held_nanousd,
    /// Of it, for those under way.
    open_nanousd,
    /// Those that ended without anybody knowing whether they were billed, and for which something is set aside.
    perhaps,
    /// What is set aside for them.
    perhaps_nanousd,
    /// Those that were or may have been billed, with neither a cost nor anything set aside.
    unreserved,
    /// Tokens of these.
    unreserved_input_tokens,
    /// The same.
    unreserved_cached_tokens,
    /// The same.
    unreserved_cache_write_tokens,
    /// The same.
    unreserved_output_tokens,
    /// The same.
    unreserved_reasoning_tokens,
    /// Those of them whose tokens nobody has told.
    untold,
    /// The bytes of their bodies.
    untold_body_bytes,
    /// The most tokens that their replies can have, as far as that is limited.
    untold_max_tokens,
    /// Those of them whose replies had no limit.
    untold_unlimited,
}

impl Sub for Sums {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sums {
    /// Adds to the sums of a way on record.
    fn add_to(self, conn: &Connection, (prompt, batch): Way) -> rusqlite::Result<()> {
        let columns = Self::COLUMNS.join(", ");
        let values = vec!["?"; Self::COLUMNS.len() + 2].join(", ");
        let sets: Vec<String> = Self::COLUMNS
            .iter()
            .map(|column| format!("{column} = {column} + excluded.{column}"))
            .collect();
        let sql = format!(
            "INSERT INTO attempt_sum (prompt_id, batch_id, {columns}) VALUES ({values})
             ON CONFLICT DO UPDATE SET {}",
            sets.join(", ")
        );
        let sums = self.each().map(|(_, sum)| sum);
        let values = [prompt.0, batch].into_iter().chain(sums);
        conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        Ok(())
    }
}

/// Says whether an attempt that failed so may have been billed, though nobody has told of any tokens.
fn may_be_billed(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::Timeout
            | FailureClass::Connection
            | FailureClass::MalformedReply
            | FailureClass::MissingFromBatch
    )
}

/// One attempt as far as sums go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// How it ended, if it has.
    pub(super) outcome: Option<Outcome>,
    /// What the provider counted.
    pub(super) usage: Option<Usage>,
    /// What it cost.
    pub(super) cost: Option<NanoUsd>,
    /// What is set aside for it.
    pub(super) reserved: Option<NanoUsd>,
    /// The token limit it was sent with.
    pub(super) max_tokens: Option<u32>,
    /// The size of the body of its request.
    pub(super) body_bytes: i64,
}

impl Facts {
    /// Returns what it adds to the sums.
    pub(super) fn sums(self) -> Sums {
        let usage = self.usage.unwrap_or_default();
        let tokens = [usage.input, usage.cached, usage.cache_write, usage.output, usage.reasoning]
            .map(|tokens| tokens as i64);
        let is_told = self.usage.is_some();
        let reserved = self.reserved.map_or(0, |reserved| reserved.0);
        let is_costless = self.cost.is_none();
        let if_so = |holds: bool, sum: i64| if holds { sum } else { 0 };
        let has_text = matches!(self.outcome, Some(Outcome::Answered | Outcome::Truncated));
        let may_be_billed = match self.outcome {
            Some(Outcome::Failed(class)) => is_told || may_be_billed(class),
            None | Some(Outcome::Answered | Outcome::Truncated | Outcome::InDoubt) => true,
        };
        let is_perhaps = is_costless
            && self.reserved.is_some()
            && matches!(self.outcome, Some(Outcome::Failed(_) | Outcome::InDoubt));
        let is_unreserved = is_costless && self.reserved.is_none() && may_be_billed;
        let is_untold = is_unreserved && !is_told;
        let unreserved = tokens.map(|tokens| if_so(is_unreserved, tokens));
        Sums {
            attempts: 1,
            answered: i64::from(self.outcome == Some(Outcome::Answered)),
            unpriced: i64::from(is_costless && (is_told || has_text)),
            input_tokens: tokens[0],
            cached_tokens: tokens[1],
            cache_write_tokens: tokens[2],
            output_tokens: tokens[3],
            reasoning_tokens: tokens[4],
            cost_nanousd: self.cost.map_or(0, |cost| cost.0),
            held_nanousd: if_so(is_costless, reserved),
            open_nanousd: if_so(self.outcome.is_none(), reserved),
            perhaps: i64::from(is_perhaps),
            perhaps_nanousd: if_so(is_perhaps, reserved),
            unreserved: i64::from(is_unreserved),
            unreserved_input_tokens: unreserved[0],
            unreserved_cached_tokens: unreserved[1],
            unreserved_cache_write_tokens: unreserved[2],
            unreserved_output_tokens: unreserved[3],
            unreserved_reasoning_tokens: unreserved[4],
            untold: i64::from(is_untold),
            untold_body_bytes: if_so(is_untold, self.body_bytes),
            untold_max_tokens: if_so(is_untold, self.max_tokens.map_or(0, i64::from)),
            untold_unlimited: i64::from(is_untold && self.max_tokens.is_none()),
        }
    }
}
