//! One request and its attempts: the body made again, the replies read again, the state worked out again.
//!
//! Runs on every thread; knows no record, only the evidence that it is handed.

use std::collections::HashMap;
use std::sync::Arc;

use super::finding::{Check, Finding, Findings, RowName};
use super::ground::{Bought, Ground, Tally};
use super::recipe::Recipe;
use crate::domain::{
    AttemptId, FailureClass, Fingerprint, Message, Outcome, Route, State, Structured, UnixMs,
};
use crate::machine::plan::Liveness;
use crate::machine::replay::{Cached, Lent, Matter, Try, differences};
use crate::store::{AttemptEvidence, PackedEvidence, RequestEvidence, Unpacked};

/// Checks requests, one after the other.
pub(super) struct Checker<'g> {
    pub(super) ground: &'g Ground,
    pub(super) unpacked: Unpacked,
    pub(super) found: Findings,
    pub(super) tally: Tally,
    body: Vec<u8>,
    pub(super) sent: Vec<u8>,
    pub(super) reply: Vec<u8>,
}

/// A request while it is checked.
pub(super) struct Subject<'e> {
    pub(super) evidence: &'e RequestEvidence,
    pub(super) recipe: Option<&'e Recipe>,
    /// Its messages, where its row can be rendered.
    pub(super) messages: Option<Vec<Message>>,
    /// How its own body asks for the form of the answer, where it is the one that its row gives.
    pub(super) form: Option<Structured>,
    /// Whether its own body could be read.
    pub(super) has_body: bool,
}

impl Subject<'_> {
    pub(super) fn finding(&self, check: Check, message: impl Into<String>) -> Finding {
        Finding {
            request: Some(self.evidence.id),
            row: Some(RowName { position: self.evidence.position, key: self.evidence.key.clone() }),
            prompt: self.recipe.map(|recipe| recipe.name.clone()),
            ..Finding::new(check, message)
        }
    }
}

impl<'g> Checker<'g> {
    pub(super) fn new(ground: &'g Ground, dictionaries: &Arc<HashMap<i64, Vec<u8>>>) -> Self {
        Self {
            ground,
            unpacked: Unpacked::new(Arc::clone(dictionaries)),
            found: Findings::default(),
            tally: Tally::default(),
            body: Vec::new(),
            sent: Vec::new(),
            reply: Vec::new(),
        }
    }

    pub(super) fn request(&mut self, evidence: &RequestEvidence) {
        self.tally.requests += 1;
        let recipe = self.ground.recipes.of(evidence.prompt_id);
        let mut subject = Subject { evidence, recipe, messages: None, form: None, has_body: false };
        if let Some((recipe, cells)) = recipe.zip(evidence.cells.as_deref()) {
            self.rendered(&mut subject, recipe, cells);
        }
        self.own_body(&mut subject);
        let mut body = std::mem::take(&mut self.body);
        for attempt in &evidence.tries {
            self.attempt(&subject, attempt, &body);
        }
        body.clear();
        body.shrink_to(KEPT_ROOM);
        self.body = body;
        self.state(&subject);
        self.money(&subject);
        if evidence.is_loose {
            let words = "it has a body without its size, or the other way round";
            self.found.add(subject.finding(Check::Body, words));
        }
        if evidence.sample != 1 {
            self.found.add(
                subject.finding(Check::State, "it is no first sample, and there are no others"),
            );
        }
        if let Some(at) = evidence.asked_at_ms {
            self.time(&subject, "it was asked for", at);
        }
    }

    fn rendered(&mut self, subject: &mut Subject<'_>, recipe: &Recipe, cells: &str) {
        let evidence = subject.evidence;
        let says_no = evidence.error_class.as_deref() == Some(FailureClass::RenderFailed.as_str());
        match recipe.render(cells) {
            Ok(messages) => {
                if says_no {
                    let words = "it says that its row cannot be rendered, and it can be";
                    self.found.add(subject.finding(Check::Rendering, words));
                }
                subject.messages = Some(messages);
            }
            Err(error) if says_no => {
                if self.ground.knows_all_words
                    && evidence.error.as_deref() != Some(&error.to_string())
                {
                    let words = "its error is not the one that rendering its row gives";
                    self.found.add(subject.finding(Check::Rendering, words));
                }
            }
            Err(error) => {
                let is_open = evidence.body.is_none() && evidence.tries.is_empty();
                if !is_open {
                    let words = format!("its row can no longer be rendered: {error}");
                    self.found.add(subject.finding(Check::Rendering, words));
                }
            }
        }
    }

    /// Unpacks the request's own body, holds it against its fingerprint and against what its row gives now.
    fn own_body(&mut self, subject: &mut Subject<'_>) {
        let evidence = subject.evidence;
        let (Some(packed), Some(fingerprint)) = (&evidence.body, &evidence.fingerprint) else {
            if !evidence.tries.is_empty() || evidence.lent.is_some() {
                self.found.add(subject.finding(Check::Body, "it was sent, and has no body"));
            }
            return;
        };
        let mut body = std::mem::take(&mut self.body);
        match self.unpack((packed, "body"), evidence.prompt_id, &mut body) {
            Ok(()) => {
                subject.has_body = true;
                if Fingerprint::of(&body).0.as_slice() != fingerprint.as_slice() {
                    let words = "its body is not the one that was fingerprinted";
                    self.found.add(subject.finding(Check::Fingerprint, words));
                }
                self.matches(subject, &body);
            }
            Err(words) => {
                self.found.add(subject.finding(Check::Body, format!("its body: {words}")));
            }
        }
        self.body = body;
    }

    fn matches(&mut self, subject: &mut Subject<'_>, body: &[u8]) {
        let Some((recipe, messages)) = subject.recipe.zip(subject.messages.as_deref()) else {
            return;
        };
        let gives = |form: &&Structured| recipe.body(**form, messages, recipe.max_tokens) == body;
        let form = recipe.forms().iter().find(gives).copied();
        if form.is_none() {
            let words = "its prompt and row give another body than the one on record";
            self.found.add(subject.finding(Check::Rendering, words));
        }
        subject.form = form;
    }

    /// Unpacks what is on record into `plain`.
    pub(super) fn unpack(
        &mut self,
        (packed, kind): (&PackedEvidence, &str),
        prompt: i64,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        let size = match packed.plain_bytes {
            Some(size) => usize::try_from(size).map_err(|_| "its size is below zero".to_owned())?,
            None => MOST_UNSIZED,
        };
        self.unpacked.unpack((&packed.bytes, packed.dictionary), size, plain)?;
        if packed.plain_bytes.is_some() && plain.len() != size {
            return Err(format!("it has {} bytes, and {size} are on record", plain.len()));
        }
        self.tally.bytes += plain.len() as u64;
        match self.ground.dictionary_problem(packed.dictionary, prompt, kind) {
            Some(words) => Err(words),
            None => Ok(()),
        }
    }

    pub(super) fn time(&mut self, subject: &Subject<'_>, what: &str, at_ms: i64) {
        if let Some(wrong) = self.ground.wrong_time(what, at_ms) {
            self.found.add(subject.finding(wrong.check, wrong.message));
        }
    }

    /// Works the state and sums out again.
    fn state(&mut self, subject: &Subject<'_>) {
        let evidence = subject.evidence;
        let Some(state) = State::parse(&evidence.state, evidence.error_class.as_deref()) else {
            let words = "its state, or the class of its failure, is no word of ours";
            return self.found.add(subject.finding(Check::State, words));
        };
        let cached = Cached {
            state,
            error: evidence.error.as_deref(),
            deciding: evidence.attempt_id.map(AttemptId),
            attempts: evidence.attempts,
            attempts_used: evidence.attempts_used,
            max_tokens: evidence.max_tokens,
            asked_at: evidence.asked_at_ms.map(UnixMs),
            tokens: evidence.tokens,
            cost: evidence.cost_nanousd,
        };
        let tries: Vec<Try<'_>> = evidence.tries.iter().map(tried).collect();
        let lent = evidence.lent.as_ref().map(|lent| Lent {
            outcome: outcome_of(lent.outcome.as_deref(), lent.error_class.as_deref()),
            error: lent.error.as_deref(),
            max_tokens: lent.max_tokens,
            attempts_used: lent.attempts_used,
        });
        if evidence.is_lent != i64::from(stands_on_another(evidence)) {
            let words = "it is marked as sharing a reply and does not, or the other way round";
            self.found.add(subject.finding(Check::State, words));
        }
        for difference in differences(&cached, &tries, lent.as_ref()) {
            let check = match difference.matter {
                Matter::Attempts => Check::Attempt,
                Matter::State => Check::State,
                Matter::Sums => Check::Sums,
                Matter::Unasked => Check::Resent,
            };
            let attempt = difference.attempt.map(|attempt| attempt.0);
            self.found.add(Finding { attempt, ..subject.finding(check, difference.words) });
        }
        if let Some(words) = stranger(subject) {
            self.found.add(subject.finding(Check::State, words));
        }
    }

    /// Counts what was bought beside what counts, and what is in doubt.
    fn money(&mut self, subject: &Subject<'_>) {
        let evidence = subject.evidence;
        let is_gone = match self.ground.liveness {
            Liveness::Running => evidence.state == "in_doubt",
            Liveness::Idle => evidence.state == "in_doubt" || evidence.state == "in_flight",
        };
        let tally = self.tally.prompts.entry(evidence.prompt_id).or_default();
        tally.in_doubt += u64::from(is_gone);
        let Some((_, earlier)) = evidence.tries.split_last() else { return };
        tally.sent_again +=
            earlier.iter().filter(|attempt| attempt.outcome.as_deref() == Some("in_doubt")).count()
                as u64;
        let is_bought = |attempt: &&AttemptEvidence| {
            let outcome = outcome_of(attempt.outcome.as_deref(), attempt.error_class.as_deref());
            outcome.is_some_and(Outcome::has_text)
                || attempt.tokens[2].is_some_and(|tokens| tokens > 0)
        };
        if evidence.tries.iter().filter(is_bought).count() < 2 {
            return;
        }
        let last =
            evidence.tries.iter().rposition(|attempt| is_bought(&attempt)).unwrap_or_default();
        let others = || evidence.tries[..last].iter().filter(is_bought);
        let bought = Bought {
            requests: 1,
            attempts: others().count() as u64,
            cost_nanousd: others()
                .filter_map(|attempt| attempt.cost_nanousd)
                .fold(0, i64::saturating_add),
            unpriced: others().filter(|attempt| attempt.cost_nanousd.is_none()).count() as u64,
        };
        match others().any(|attempt| attempt.outcome.as_deref() == Some("answered")) {
            true => self.tally.asked_again.add(bought),
            false => self.tally.tried_again.add(bought),
        }
    }
}

/// Room that is kept between requests.
const KEPT_ROOM: usize = 1 << 20;
/// The most that a body can be whose size is not on record: 64 MiB of text in each of a few messages, escaped.
const MOST_UNSIZED: usize = 512 << 20;

fn tried(attempt: &AttemptEvidence) -> Try<'_> {
    Try {
        id: AttemptId(attempt.id),
        number: attempt.number,
        route: if attempt.route == Route::Batch.as_str() { Route::Batch } else { Route::Realtime },
        outcome: outcome_of(attempt.outcome.as_deref(), attempt.error_class.as_deref()),
        error: attempt.error.as_deref(),
        max_tokens: attempt.max_tokens,
        promised_at: UnixMs(attempt.promised_at_ms),
        tokens: attempt.tokens,
        cost: attempt.cost_nanousd,
    }
}

pub(super) fn outcome_of(word: Option<&str>, class: Option<&str>) -> Option<Outcome> {
    Outcome::parse(word?, class)
}

/// Says what is wrong with the request whose reply is shared, if something is. Once a schema has been refused, a
/// request shares with those that have the body which it would be sent with by then.
fn stranger(subject: &Subject<'_>) -> Option<String> {
    let lent = subject.evidence.lent.as_ref()?;
    let recipe = subject.recipe?;
    let gives = |form: &Structured| {
        let body = recipe.body(*form, subject.messages.as_deref()?, recipe.max_tokens);
        Some(Fingerprint::of(&body).0.to_vec())
    };
    let has_body = lent.fingerprint == subject.evidence.fingerprint
        || recipe
            .forms()
            .iter()
            .any(|form| gives(form).is_some_and(|mine| lent.fingerprint == Some(mine)));
    let is_same =
        has_body && lent.model == recipe.model && lent.endpoint == recipe.endpoint.as_str();
    (!is_same).then(|| {
        format!("it shares the reply of request {}, which has another body", lent.request_id)
    })
}

fn stands_on_another(evidence: &RequestEvidence) -> bool {
    let is_own = |deciding| evidence.tries.iter().any(|attempt| attempt.id == deciding);
    evidence.attempt_id.is_some_and(|deciding| !is_own(deciding))
}
