//! What a prompt's due requests would take, in tokens and money.
//!
//! All of them are looked at where they are few or where a person asks for it; else a sample, spread over the whole table
//! and the same one each time. Requests that were never sent and those that are sent again are two populations: each
//! sample is scaled by its own.
//!
//! ```text
//!   this thread reads pages ──▶ a looker a core, each with a tally of its own ──▶ put together   (--exact)
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::expect::Expected;
use super::look::{Ground, Looker, Money, Notes, Sums, Tally};
use crate::cli::failure::Failure;
use crate::domain::{NanoUsd, RequestId, RowId};
use crate::engine::{Prices, TaskParts};
use crate::machine::packing::Size;
use crate::machine::plan::{Left, Liveness, observed};
use crate::machine::request::{Due, Facts, Policy, due};
use crate::store::{DueRequest, PromptRecord, Store, StoreError};

/// Requests read at a time.
const PAGE: u32 = 500;
/// Bytes of cells after which a page is handed over.
const PAGE_BYTES: usize = 1 << 20;
/// Pages after which requests that are due again are no longer looked for, where a sample will do.
const PAGES: usize = 20;
/// Where the spots of a sample are drawn from.
const SEED: u64 = 0x6f76_6572_6e69;

/// How many of the due requests are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A few: enough to say what a run is about to cost.
    #[default]
    Few,
    /// As many as take no time: all of them up to some thousands.
    Many,
    /// All.
    All,
}

impl Extent {
    /// Returns up to how many all are looked at, and how many where there are more.
    fn bounds(self) -> (u64, u64) {
        match self {
            Self::Few => (300, 200),
            Self::Many => (4_000, 2_000),
            Self::All => (u64::MAX, u64::MAX),
        }
    }
}

/// Is told how many requests have been looked at.
pub(crate) type OnLook<'a> = &'a (dyn Fn(u64) + Sync);

/// What is looked at.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) prompt: &'a PromptRecord,
    pub(super) parts: &'a TaskParts,
    pub(super) policy: Policy,
    pub(super) liveness: Liveness,
    pub(super) left: Left,
}

/// What is known of a prompt's due requests.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) expected: Expected,
    pub(super) notes: Notes,
    /// Requests that are due.
    due: u64,
    /// Of all that are due, scaled up where not all were looked at.
    sums: Sums,
}

/// What requests may cost; `None` where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) about: Option<NanoUsd>,
    /// If nothing has to be tried again.
    pub(crate) most: Option<NanoUsd>,
}

impl Cost {
    pub(super) const NOTHING: Self = Self { about: Some(NanoUsd(0)), most: Some(NanoUsd(0)) };

    pub(super) fn and(self, other: Self) -> Self {
        let sum = |a: Option<NanoUsd>, b: Option<NanoUsd>| a.zip(b).map(|(a, b)| a + b);
        Self { about: sum(self.about, other.about), most: sum(self.most, other.most) }
    }
}

impl Sample {
    /// Looks at nothing, where nothing is due.
    pub(super) fn nothing(prompt: &PromptRecord, prices: Prices) -> Self {
        let expected = Expected::nothing(prompt, prices);
        Self { expected, notes: Notes::default(), due: 0, sums: Sums::default() }
    }

    /// Looks at the requests of a prompt that are due.
    pub(super) fn of(
        store: &Store,
        subject: Subject<'_>,
        (extent, on_look): (Extent, OnLook<'_>),
    ) -> Result<Self, Failure> {
        let Subject { prompt, parts, left, .. } = subject;
        let expected = Expected::of(store, prompt, parts)?;
        let (all, some) = extent.bounds();
        // Requests that a person had reopened are new and on record.
        let unasked = left.new - left.reopened;
        let again = left.due() - unasked;
        let are_all = left.due() <= all;
        let columns = store.columns()?;
        let ground = Ground::new(&prompt.spec, parts, &expected, (&columns, are_all));
        let mut tally = Tally::default();
        if extent == Extent::All {
            tally = look_at_all(store, subject, &ground, on_look)?;
        } else {
            let mut looker = ground.looker();
            let look = |looker: &mut Looker<'_>, request: &DueRequest| {
                if let Due::Yes { max_tokens } = is_due(subject, request) {
                    looker.look(request, max_tokens);
                }
            };
            match are_all {
                true => each_unasked(store, prompt, |request| look(&mut looker, &request))?,
                false => spread(store, prompt, some, |request| look(&mut looker, &request))?,
            }
            let mut new = std::mem::take(&mut looker.tally);
            new.sums = scaled(&new, unasked);
            let mut met = 0;
            each_open(store, subject, |request, max_tokens| {
                looker.look(&request, max_tokens);
                met += 1;
                are_all || met < some / 4
            })?;
            let mut old = looker.tally;
            old.sums = scaled(&old, again);
            tally += new;
            tally += old;
        }
        Ok(Self { notes: tally.notes, due: left.due(), sums: tally.sums, expected })
    }

    /// Returns whether all that are due were looked at.
    pub(super) fn is_whole(&self) -> bool {
        self.notes.looked >= self.due
    }

    /// Returns the size of one line in a batch's input file.
    pub(super) fn line(&self) -> Size {
        let each = |sum: f64| (sum / self.sums.requests.max(1.0)).ceil() as u64;
        Size { bytes: each(self.sums.line_bytes), tokens: each(self.sums.counted) }
    }

    fn share(&self, requests: u64) -> f64 {
        requests as f64 / self.due.max(1) as f64
    }

    /// Returns the input tokens of so many requests.
    pub(super) fn input(&self, requests: u64) -> u64 {
        (self.sums.input * self.share(requests)).round() as u64
    }

    /// Returns how many of their input tokens the provider is expected to have in its cache.
    pub(super) fn cached(&self, requests: u64) -> u64 {
        (self.sums.input * self.share(requests) * self.expected.cached).round() as u64
    }

    /// Returns the most that their input can be billed as, nothing being tried again.
    pub(super) fn most_input(&self, requests: u64) -> u64 {
        (self.sums.most_input * self.share(requests)).ceil() as u64
    }

    /// Returns the output tokens of so many requests.
    pub(super) fn output(&self, requests: u64) -> u64 {
        (self.expected.output * self.sums.requests * self.share(requests)).round() as u64
    }

    /// Returns how many of their output tokens are thought.
    pub(super) fn reasoning(&self, requests: u64) -> u64 {
        (self.output(requests) as f64 * self.expected.reasoning).round() as u64
    }

    /// Returns the most output tokens that so many requests can have; `None` where no limit is known.
    pub(super) fn most_output(&self, requests: u64) -> Option<u64> {
        let most = self.sums.most_output * self.share(requests);
        most.is_finite().then_some(most.ceil() as u64)
    }

    /// Returns what so many requests cost by calls.
    pub(super) fn by_calls(&self, requests: u64) -> Cost {
        self.cost(self.sums.calls, requests)
    }

    /// Returns what so many requests cost in batches.
    pub(super) fn in_batches(&self, requests: u64) -> Cost {
        self.cost(self.sums.batch, requests)
    }

    fn cost(&self, money: Money, requests: u64) -> Cost {
        if requests == 0 {
            return Cost::NOTHING;
        }
        let of = |nano: f64| {
            let nano = nano * self.share(requests);
            nano.is_finite().then_some(NanoUsd(nano.ceil() as i64))
        };
        // Nothing that could be rendered: nothing to pay.
        Cost { about: of(money.about), most: of(money.most) }
    }

    /// Returns the prices that the costs are at.
    pub(super) fn prices(&self) -> Prices {
        self.expected.prices
    }
}

/// Returns the sums of a tally made larger to stand for so many requests.
fn scaled(tally: &Tally, requests: u64) -> Sums {
    match tally.notes.looked {
        0 => Sums::default(),
        looked => tally.sums.times(requests as f64 / looked as f64),
    }
}

/// Looks at all requests that are due, with a looker a core.
fn look_at_all(
    store: &Store,
    subject: Subject<'_>,
    ground: &Ground<'_>,
    on_look: OnLook<'_>,
) -> Result<Tally, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (out, pages) = sync_channel::<Vec<DueRequest>>(2 * threads);
    let pages = Arc::new(Mutex::new(pages));
    let looked = &AtomicU64::new(0);
    std::thread::scope(|scope| {
        let lookers: Vec<_> = (0..threads)
            .map(|_| {
                let pages = Arc::clone(&pages);
                scope.spawn(move || look_on((subject, ground), &pages, (looked, on_look)))
            })
            .collect();
        // The last looker to go takes it along; whoever sends then is told.
        drop(pages);
        let mut page = Pages { out, page: Vec::new(), bytes: 0 };
        let mut read = each_unasked(store, subject.prompt, |request| page.add(request));
        if read.is_ok() {
            read = each_open(store, subject, |request, _| {
                page.add(request);
                true
            });
        }
        page.hand_over();
        drop(page);
        let mut tally = Tally::default();
        for looker in lookers {
            match looker.join() {
                Ok(part) => tally += part,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read.map(|()| tally).map_err(Failure::from)
    })
}

/// Looks at pages until there are no more.
fn look_on(
    (subject, ground): (Subject<'_>, &Ground<'_>),
    pages: &Mutex<Receiver<Vec<DueRequest>>>,
    (number, on_look): (&AtomicU64, OnLook<'_>),
) -> Tally {
    let mut looker = ground.looker();
    loop {
        let page = pages.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(page) = page else { return looker.tally };
        for request in &page {
            if let Due::Yes { max_tokens } = is_due(subject, request) {
                looker.look(request, max_tokens);
            }
        }
        let page = page.len() as u64;
        on_look(number.fetch_add(page, Ordering::Relaxed) + page);
    }
}

/// Puts requests into pages of a bounded size.
struct Pages {
    out: SyncSender<Vec<DueRequest>>,
    page: Vec<DueRequest>,
    bytes: usize,
}

impl Pages {
    fn add(&mut self, request: DueRequest) {
        self.bytes += request.cells.len();
        self.page.push(request);
        if self.bytes >= PAGE_BYTES || self.page.len() >= PAGE as usize {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        self.bytes = 0;
        // Whoever looked and is gone has panicked, which is told when it is joined.
        let _ = self.out.send(std::mem::take(&mut self.page));
    }
}

/// Hands over all rows that have no request yet.
fn each_unasked(
    store: &Store,
    prompt: &PromptRecord,
    mut each: impl FnMut(DueRequest),
) -> Result<(), StoreError> {
    let mut after = RowId(0);
    loop {
        let page = store.unasked_rows(prompt.id, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.row;
        page.into_iter().for_each(&mut each);
    }
}

/// Hands over about `number` rows that have no request yet, one from each of so many equal stretches of the table.
fn spread(
    store: &Store,
    prompt: &PromptRecord,
    number: u64,
    mut each: impl FnMut(DueRequest),
) -> Result<(), StoreError> {
    let Some((first, last)) = store.first_and_last_row()? else { return Ok(()) };
    let rows = (last.0 - first.0 + 1).max(1) as u128;
    let edge = |stretch: u64| {
        first.0 + i64::try_from(rows * u128::from(stretch) / u128::from(number)).unwrap_or(0)
    };
    let mut random = fastrand::Rng::with_seed(SEED);
    for stretch in 0..number {
        let (from, before) = (edge(stretch), edge(stretch + 1));
        if from >= before {
            continue;
        }
        let spot = random.i64(from..before);
        let found = match store.unasked_row(prompt.id, (RowId(spot), RowId(before)))? {
            Some(found) => Some(found),
            None => store.unasked_row(prompt.id, (RowId(from), RowId(spot)))?,
        };
        found.into_iter().for_each(&mut each);
    }
    Ok(())
}

/// Hands over requests that were made before and are due, with their token limits, until there are enough.
fn each_open(
    store: &Store,
    subject: Subject<'_>,
    mut each: impl FnMut(DueRequest, Option<u32>) -> bool,
) -> Result<(), StoreError> {
    if subject.left.due() == subject.left.new - subject.left.reopened {
        return Ok(());
    }
    let mut after = RequestId(0);
    loop {
        let page = store.open_requests(subject.prompt.id, after, PAGE)?;
        let Some(last) = page.last().and_then(|due| due.existing.as_ref()) else { return Ok(()) };
        after = last.id;
        for request in page {
            let Due::Yes { max_tokens } = is_due(subject, &request) else { continue };
            if !each(request, max_tokens) {
                return Ok(());
            }
        }
    }
}

/// Returns the first rows that are due for a prompt, new ones first.
pub(super) fn due_rows(
    store: &Store,
    subject: Subject<'_>,
    limit: usize,
) -> Result<Vec<DueRequest>, StoreError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut found = store.unasked_rows(subject.prompt.id, RowId(0), limit as u32)?;
    let mut after = RequestId(0);
    for _ in 0..PAGES {
        if !found.is_empty() {
            break;
        }
        let page = store.open_requests(subject.prompt.id, after, PAGE)?;
        let Some(last) = page.last().and_then(|due| due.existing.as_ref()) else { break };
        after = last.id;
        let is_due = |request: &DueRequest| matches!(is_due(subject, request), Due::Yes { .. });
        found.extend(page.into_iter().filter(is_due));
    }
    found.truncate(limit);
    Ok(found)
}

/// Says whether a request is due, and with which token limit.
fn is_due(subject: Subject<'_>, request: &DueRequest) -> Due {
    let first = subject.prompt.spec.max_tokens;
    let Some(existing) = &request.existing else { return Due::Yes { max_tokens: first } };
    let facts = Facts {
        state: observed(existing.state, subject.liveness),
        attempts_used: existing.attempts_used,
        max_tokens: existing.max_tokens.or(first),
    };
    due(facts, subject.policy)
}
