//! How fast to send: how many at once, and how soon the next one.
//!
//! Each limit has its own keeper, and a call goes when none objects:
//!
//! ```text
//!   crowd     how many are under way: by hand, or as many as pay       (latency)
//!   bucket    the rates that a person set: hard, in every minute       (--rpm, --tpm)
//!   told      the limits that headers tell of                          (x-ratelimit-*, …)
//!   ceiling   the rate that refusals teach where headers do not        (429)
//!   pause     what the provider asked for, or what a breakdown calls for
//!   stray     which refusals say nothing of the rate
//! ```
//! `sent` numbers the calls, so that a reply can be set against what went after it.
//! Pure: time is the time since the run began, handed in; nothing here sleeps.

mod bucket;
mod ceiling;
mod crowd;
mod minute;
mod sent;
mod stray;
mod told;

use std::time::Duration;

use crate::domain::FailureClass;
use bucket::Bucket;
use ceiling::{Ceiling, Refusal};
use crowd::Crowd;
use sent::Sent;
use stray::{Held, Speaks, Stray};
pub use told::LimitSeen;
use told::{Said, Told, Unit};

/// Failures in a row, with no answer between, after which a provider that has answered is taken to be away.
const AWAY_AFTER: u32 = 12;
/// The longest pause between two looks at a provider that is away.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest pause that a provider is granted at its asking.
const LONGEST_ASKED: Duration = Duration::from_mins(10);
/// A provider's count that is so many times what was guessed, and above this, is not believed any further: it must not
/// keep the run waiting for ever.
const MOST_OFF: u64 = 8;
const MOST_UNGUESSED: u64 = 20_000;
/// Cuts closer together than this are one cut: they answer to the same burst.
const ONE_CUT: Duration = Duration::from_secs(1);
/// For as long as nothing has landed, one more may go after each such while: an account that has nothing left says so
/// to a single call as well as to eight.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Refusals of calls sent at one time come in by about so much apart.
const A_BIT: Duration = Duration::from_millis(20);
/// Where headers tell of limits that are kept, so many times more refusals are borne before the headers are not believed.
const BELIEVED: f64 = 3.0;
/// After so many replies without a word of a limit that was remembered, it is forgotten.
const SILENT: u32 = 20;

/// What a person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaceSettings {
    /// At most so many in flight, and so many at once.
    pub concurrency: Option<u32>,
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute, input and output together.
    pub tpm: Option<u32>,
}

/// Whether a request may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Now.
    Go,
    /// Not before so much time has passed.
    Wait(Duration),
    /// Not before one in flight has landed.
    Full,
}

/// How a call went, as far as the pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The provider answered it, whatever the answer was worth.
    Served,
    /// It failed.
    Failed(Failed),
}

/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In which way.
    pub class: FailureClass,
    /// How long a pause the provider asked for.
    pub asked: Option<Duration>,
    /// Whether it was its request's first try. That a request fails which has failed before says
    /// more of the request than of the provider.
    pub is_first_try: bool,
}

/// A call that has landed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Landed {
    /// What [`Pace::start`] gave to it.
    pub number: u64,
    /// How long it was under way.
    pub took: Duration,
    /// The tokens that it was guessed to take.
    pub guessed: u64,
    /// The tokens that it took, where the provider has counted.
    pub counted: Option<u64>,
    /// What its headers say of requests a minute.
    pub requests: LimitSeen,
    /// What its headers say of tokens a minute.
    pub tokens: LimitSeen,
    /// How it went.
    pub how: Landing,
}

/// The rates that a provider was found to allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests a minute.
    pub requests: Option<u64>,
    /// Tokens a minute.
    pub tokens: Option<u64>,
}

/// The pace at one model of one provider.
#[derive(Clone, Debug)]
pub struct Pace {
    crowd: Crowd,
    sent: Sent,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    told_requests: Option<Told>,
    told_tokens: Option<Told>,
    ceiling: Option<Ceiling>,
    stray: Stray,
    last_cut: Option<Duration>,
    paused_until: Duration,
    failures_in_a_row: u32,
    has_served: bool,
    first_start: Option<Duration>,
    has_landed: bool,
}

impl Pace {
    /// Starts at what a person asked for, else low, and from what another run has learned.
    pub fn new(settings: PaceSettings, remembered: Rates) -> Self {
        let told = |unit, limit: u64| Told::remembered(unit, limit.max(1) as f64);
        Self {
            crowd: Crowd::new(settings.concurrency),
            sent: Sent::default(),
            requests: settings.rpm.map(|rpm| Bucket::strict(f64::from(rpm))),
            tokens: settings.tpm.map(|tpm| Bucket::strict(f64::from(tpm))),
            told_requests: None,
            told_tokens: remembered.tokens.map(|limit| told(Unit::Tokens, limit)),
            ceiling: remembered.requests.map(|limit| Ceiling::remembered(limit.max(1) as f64)),
            stray: Stray::default(),
            last_cut: None,
            paused_until: Duration::ZERO,
            failures_in_a_row: 0,
            has_served: false,
            first_start: None,
            has_landed: false,
        }
    }

    /// Says whether a request of about so many tokens may go at `now`.
    pub fn ask(&mut self, now: Duration, tokens: u64) -> Permit {
        if self.crowd.is_full() {
            return Permit::Full;
        }
        let (one, tokens) = (1.0, tokens as f64);
        let mut wait = self.paused_until.max(self.first_look()).saturating_sub(now);
        for (bucket, need) in [(&mut self.requests, one), (&mut self.tokens, tokens)] {
            if let Some(bucket) = bucket {
                wait = wait.max(bucket.ready_in(now, need));
            }
        }
        for (told, need) in [(&mut self.told_requests, one), (&mut self.told_tokens, tokens)] {
            if let Some(told) = told {
                wait = wait.max(told.ready_in(now, need));
            }
        }
        let sent = self.sent.all().requests;
        if let Some(ceiling) = &mut self.ceiling {
            wait = wait.max(ceiling.ready_in(now, sent));
            if ceiling.is_gone() {
                self.ceiling = None;
            }
        }
        if wait.is_zero() { Permit::Go } else { Permit::Wait(wait) }
    }

    /// Notes that a request of about so many tokens goes. Returns its number, for [`Pace::land`].
    pub fn start(&mut self, now: Duration, tokens: u64) -> u64 {
        self.crowd.start();
        self.first_start.get_or_insert(now);
        let (one, need) = (1.0, tokens as f64);
        for (bucket, need) in [(&mut self.requests, one), (&mut self.tokens, need)] {
            if let Some(bucket) = bucket {
                bucket.take(now, need);
            }
        }
        for (told, need) in [(&mut self.told_requests, one), (&mut self.told_tokens, need)] {
            if let Some(told) = told {
                told.take(now, need);
            }
        }
        if let Some(ceiling) = &mut self.ceiling {
            ceiling.take();
        }
        self.sent.start(now, (tokens, self.crowd.in_flight()))
    }

    /// Notes that a request of about so many tokens did not go after all, and gives back what it had taken
    /// of the rates: a row that shares another one's reply costs no call and must not wait like one.
    pub fn withdraw(&mut self, tokens: u64) {
        self.crowd.leave();
        self.sent.withdraw(tokens);
        let (one, need) = (1.0, tokens as f64);
        for (bucket, need) in [(&mut self.requests, one), (&mut self.tokens, need)] {
            if let Some(bucket) = bucket {
                bucket.correct(need);
            }
        }
        for (told, need) in [(&mut self.told_requests, one), (&mut self.told_tokens, need)] {
            if let Some(told) = told {
                told.give_back(need);
            }
        }
        if let Some(ceiling) = &mut self.ceiling {
            ceiling.give_back();
        }
    }

    /// Notes how a request landed. `jitter` is uniform in `0.0..1.0`. Returns a new pause, if one begins.
    pub fn land(&mut self, now: Duration, landed: &Landed, jitter: f64) -> Option<Duration> {
        self.has_landed = true;
        let before = self.paused_until;
        self.hear(now, landed);
        if let Some(counted) = landed.counted {
            self.count(landed.guessed, counted);
        }
        match landed.how {
            Landing::Served => {
                self.has_served = true;
                self.failures_in_a_row = 0;
                let held = self.held();
                self.stray.served(landed.number, held);
                if let Some(at_once) = self.told_at_once(landed) {
                    self.crowd.make_room(at_once);
                }
                let under_way = self.sent.up_to(landed.number).under_way;
                self.crowd.served((landed.number, self.sent.last()), (under_way, landed.took));
                for told in [&mut self.told_requests, &mut self.told_tokens].into_iter().flatten() {
                    told.served();
                }
                self.crowd.leave();
            }
            Landing::Failed(failed) => self.failed(now, (landed, failed), jitter),
        }
        (self.paused_until > before.max(now)).then(|| self.paused_until.saturating_sub(now))
    }

    /// Returns how many may be in flight now.
    pub fn allowed(&self) -> u32 {
        self.crowd.allowed()
    }

    /// Says whether the provider seems to be away, so that single calls look whether it is back.
    pub fn is_away(&self) -> bool {
        self.failures_in_a_row >= AWAY_AFTER
    }

    /// Returns how many are in flight.
    pub fn in_flight(&self) -> u32 {
        self.crowd.in_flight()
    }

    /// Returns the rates that were found in this run.
    pub fn learned(&self) -> Rates {
        let told =
            |told: &Option<Told>| told.as_ref().filter(|told| told.is_heard).map(Told::per_minute);
        let refusals = self.ceiling.as_ref().filter(|ceiling| ceiling.is_measured());
        let whole = |rate: f64| (rate.round() as u64).max(1);
        let by_refusals = refusals.and_then(Ceiling::per_minute);
        Rates {
            requests: by_refusals.or(told(&self.told_requests)).map(whole),
            tokens: told(&self.told_tokens).map(whole),
        }
    }

    /// Returns when the next call may go while nothing has landed yet; a number given by hand goes at once.
    fn first_look(&self) -> Duration {
        match self.first_start {
            Some(first) if !self.has_landed && !self.crowd.is_by_hand() => {
                first + FIRST_LOOK.saturating_mul(self.crowd.in_flight())
            }
            Some(_) | None => Duration::ZERO,
        }
    }

    /// Takes in what the headers of a reply say of the provider's limits.
    fn hear(&mut self, now: Duration, landed: &Landed) {
        let (from, up_to) = (now.saturating_sub(landed.took), self.sent.up_to(landed.number));
        let all = self.sent.all();
        let is_reply = matches!(landed.how, Landing::Served);
        for (told, unit, seen) in [
            (&mut self.told_requests, Unit::Requests, landed.requests),
            (&mut self.told_tokens, Unit::Tokens, landed.tokens),
        ] {
            let limit = seen.per_minute.filter(|limit| *limit >= 1.0);
            match (limit, &mut *told) {
                (Some(limit), _) => {
                    if unit == Unit::Requests
                        && self.ceiling.as_ref().is_some_and(|c| !c.is_measured())
                    {
                        // It was remembered: what is heard counts for more.
                        self.ceiling = None;
                    }
                    let told = told.get_or_insert_with(|| Told::new(unit, limit, now));
                    told.heard(Said { seen, from, now, up_to, all });
                }
                (None, Some(old)) if !old.is_heard && is_reply => {
                    old.silent += 1;
                    if old.silent >= SILENT {
                        *told = None;
                    }
                }
                (None, _) => {}
            }
        }
    }

    /// Returns how many calls like this one may be under way by the limits that are told, if any is.
    fn told_at_once(&self, landed: &Landed) -> Option<f64> {
        let needs = [(&self.told_requests, 1.0), (&self.told_tokens, landed.guessed as f64)];
        let heard = needs.into_iter().filter_map(|(told, need)| Some((told.as_ref()?, need)));
        heard
            .filter(|(told, _)| told.is_heard)
            .map(|(told, need)| told.in_a_while(landed.took, need))
            .reduce(f64::min)
    }

    /// Corrects the token count of a request once the provider has counted, against the rate that a person set.
    fn count(&mut self, guessed: u64, counted: u64) {
        let beyond = counted.min(guessed.saturating_mul(MOST_OFF).max(MOST_UNGUESSED));
        if let Some(bucket) = &mut self.tokens {
            bucket.correct(guessed as f64 - beyond as f64);
        }
    }

    fn failed(&mut self, now: Duration, (landed, failed): (&Landed, Failed), jitter: f64) {
        let Failed { class, asked, is_first_try } = failed;
        let was_full = self.crowd.is_full();
        self.crowd.leave();
        match class {
            FailureClass::RateLimited => {
                self.failures_in_a_row += 1;
                if was_full {
                    self.crowd.stop_doubling(self.sent.last());
                }
                let (speaks, taught) = self.refused(now, landed, asked);
                let growing = self.growing_pause(jitter);
                let pause = match speaks {
                    Speaks::OfALimit => asked.unwrap_or(growing.max(taught.unwrap_or_default())),
                    Speaks::Unknown => asked.unwrap_or_default(),
                    // Its own call alone waits as long as it was asked to.
                    Speaks::OfItself => Duration::ZERO,
                };
                self.pause(now, if self.is_away() { pause.max(growing) } else { pause });
            }
            FailureClass::Overloaded => {
                self.failures_in_a_row += u32::from(is_first_try);
                self.cut(now);
                self.pause(now, asked.unwrap_or_else(|| self.growing_pause(jitter)));
            }
            FailureClass::Unreachable => self.may_be_away(now, asked, jitter),
            FailureClass::ServerError | FailureClass::Timeout | FailureClass::Connection => {
                if self.has_served && is_first_try {
                    self.may_be_away(now, asked, jitter);
                }
            }
            // These say nothing of the provider's capacity.
            FailureClass::QuotaExhausted
            | FailureClass::Unauthorized
            | FailureClass::Forbidden
            | FailureClass::ModelNotFound
            | FailureClass::EndpointNotFound
            | FailureClass::InvalidRequest
            | FailureClass::ContextTooLong
            | FailureClass::RequestTooLarge
            | FailureClass::ContentFiltered
            | FailureClass::Refused
            | FailureClass::SchemaUnsupported
            | FailureClass::InvalidAnswer
            | FailureClass::MalformedReply
            | FailureClass::RenderFailed
            | FailureClass::BatchExpired
            | FailureClass::BatchCancelled
            | FailureClass::BatchFailed
            | FailureClass::MissingFromBatch => self.failures_in_a_row = 0,
        }
    }

    fn may_be_away(&mut self, now: Duration, asked: Option<Duration>, jitter: f64) {
        self.failures_in_a_row += 1;
        if self.is_away() {
            self.crowd.start_over(self.sent.last());
            self.pause(now, asked.unwrap_or_else(|| self.growing_pause(jitter)));
        }
    }

    /// Returns how refusals hold the rate down, if they do.
    fn held(&self) -> Option<Held> {
        self.ceiling.as_ref().map(Ceiling::held)
    }

    /// Learns from a refusal. Returns what it says, and for how long it calls for a pause where the provider asked for none.
    fn refused(
        &mut self,
        now: Duration,
        landed: &Landed,
        asked: Option<Duration>,
    ) -> (Speaks, Option<Duration>) {
        // Where the provider says in every reply that there is plenty left, a refusal now and then is no word on the rate.
        let is_heard = |told: &Option<Told>| told.as_ref().is_some_and(|told| told.is_heard);
        let mut is_explained = is_heard(&self.told_requests) || is_heard(&self.told_tokens);
        let needs =
            [(&mut self.told_requests, 1.0), (&mut self.told_tokens, landed.guessed as f64)];
        for (told, need) in needs {
            if let Some(told) = told.as_mut().filter(|told| told.is_short(need)) {
                told.widen();
                is_explained = true;
            }
        }
        let held = self.held();
        let most = if is_explained { BELIEVED } else { 1.0 };
        let speaks = self.stray.refused(landed.number, held, most);
        if speaks != Speaks::OfALimit {
            if let Some(ceiling) = &mut self.ceiling {
                ceiling.pass_over(landed.number);
            }
            return (speaks, None);
        }
        let known = now.saturating_sub(landed.took + landed.took / 2 + A_BIT);
        let refusal = Refusal {
            now,
            from: now.saturating_sub(landed.took),
            number: landed.number,
            up_to: self.sent.up_to(landed.number).requests,
            known,
            by_then: self.sent.by(known).requests,
            all: self.sent.all().requests,
            last: self.sent.last(),
            asked,
        };
        if let Some(ceiling) = &mut self.ceiling {
            return (speaks, ceiling.refused(refusal));
        }
        self.ceiling = Some(Ceiling::new(refusal));
        (speaks, None)
    }

    fn cut(&mut self, now: Duration) {
        if self.last_cut.is_none_or(|last| now.saturating_sub(last) >= ONE_CUT) {
            self.last_cut = Some(now);
            self.crowd.cut(self.sent.last());
        }
    }

    fn pause(&mut self, now: Duration, pause: Duration) {
        let until = now.saturating_add(pause.min(LONGEST_ASKED));
        self.paused_until = self.paused_until.max(until);
    }

    /// One second, doubling with every failure in a row beyond the first few, with full jitter on its upper half.
    fn growing_pause(&self, jitter: f64) -> Duration {
        let beyond = self.failures_in_a_row.saturating_sub(AWAY_AFTER).min(6);
        let ceiling = Duration::from_millis(500).saturating_mul(1 << beyond).min(LONGEST_PAUSE);
        ceiling.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests;
