//! One attempt: the body that it was sent with, and its reply read again.

use super::finding::{Check, Finding};
use super::ground::{PriceGroup, WAITING, is_before};
use super::recipe::Recipe;
use super::request::{Checker, Subject, outcome_of};
use crate::domain::{
    AttemptId, BatchEnd, FailureClass, NanoUsd, Outcome, Reading, Structured, Usage,
};
use crate::engine::batches::words_without_line;
use crate::engine::worker::{Judged, judged};
use crate::machine::budget::bill;
use crate::provider::batch::{Garbled, MAX_LINE_BYTES, attempt_of, input_line_bytes, result_line};
use crate::provider::{ReplyHeaders, reading};
use crate::store::AttemptEvidence;

/// What a reply comes to when it is read again.
struct Again {
    judged: Judged,
    status_code: Option<i64>,
    /// The provider's id in the reply itself.
    provider_request_id: Option<String>,
    /// Whether that is where it is always taken from.
    id_is_inside: bool,
    /// Whether its words for an error hang on what is not on record.
    has_other_words: bool,
}

impl Checker<'_> {
    /// Checks an attempt; `own` is the request's own body.
    pub(super) fn attempt(&mut self, subject: &Subject<'_>, attempt: &AttemptEvidence, own: &[u8]) {
        self.tally.attempts += 1;
        self.tally.attempt_of_run(attempt.run_id, attempt.id);
        self.times(subject, attempt);
        if attempt.outcome.is_some() && outcome(attempt).is_none() {
            self.tell(
                subject,
                attempt,
                (Check::Attempt, "its outcome, or the class of its failure, is no word of ours"),
            );
        }
        if attempt.is_loose {
            let words =
                "it has a body or reply without its size or dictionary, or the other way round";
            self.tell(subject, attempt, (Check::Attempt, words));
        }
        let form = self.sent_body(subject, attempt, own);
        self.asked_as_then(subject, attempt, form);
        if attempt.batch_id.is_none()
            && (attempt.result_file.is_some() || attempt.result_line.is_some())
        {
            self.tell(
                subject,
                attempt,
                (Check::Attempt, "it went by a call, and has a place in a batch's results"),
            );
        }
        if attempt.batch_id.is_some() {
            self.place(subject, attempt, own);
        }
        match (&attempt.reply, outcome(attempt)) {
            (None, None) => self.promise(subject, attempt),
            (None, Some(outcome)) => self.without_reply(subject, attempt, outcome),
            (Some(packed), _) => {
                self.tally.replies += 1;
                let mut reply = std::mem::take(&mut self.reply);
                match self.unpack((packed, "reply"), subject.evidence.prompt_id, &mut reply) {
                    Ok(()) => self.read_again(subject, attempt, (form, &reply)),
                    Err(words) => {
                        self.tell(subject, attempt, (Check::Reply, &format!("its reply: {words}")));
                    }
                }
                reply.shrink_to(1 << 20);
                self.reply = reply;
            }
        }
        self.count(subject, attempt, form);
    }

    pub(super) fn tell(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        (check, words): (Check, &str),
    ) {
        let finding = subject.finding(check, words).of_attempt(attempt.id);
        self.found.add(Finding { batch: attempt.batch_id, ..finding });
    }

    fn times(&mut self, subject: &Subject<'_>, attempt: &AttemptEvidence) {
        let named = [
            ("it was promised", Some(attempt.promised_at_ms)),
            ("it was settled", attempt.settled_at_ms),
        ];
        for (what, at) in named.into_iter().filter_map(|(what, at)| Some((what, at?))) {
            if let Some(wrong) = self.ground.wrong_time(what, at) {
                self.tell(subject, attempt, (wrong.check, &wrong.message));
            }
        }
        if attempt.settled_at_ms.is_some_and(|settled| is_before(settled, attempt.promised_at_ms)) {
            self.tell(
                subject,
                attempt,
                (Check::Time, "it was settled long before it was promised"),
            );
        }
        let run = self.ground.runs.get(&attempt.run_id);
        if run.is_some_and(|run| run.is_outside(attempt.promised_at_ms)) {
            let words = format!("it was promised at a time when run {} was not on", attempt.run_id);
            self.tell(subject, attempt, (Check::Time, &words));
        }
    }

    /// Holds what was sent against what the row and the prompt give. Returns how it asks for the form of the answer.
    fn sent_body(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        own: &[u8],
    ) -> Option<Structured> {
        let mut sent = std::mem::take(&mut self.sent);
        let mut is_read = subject.has_body;
        if let Some(packed) = &attempt.body {
            is_read = true;
            if let Err(words) = self.unpack((packed, "body"), subject.evidence.prompt_id, &mut sent)
            {
                self.tell(
                    subject,
                    attempt,
                    (Check::Body, &format!("the body that was sent: {words}")),
                );
                is_read = false;
            }
        }
        let bytes = if attempt.body.is_some() { &sent } else { own };
        let form = match is_read {
            true => self.form_of(subject, attempt, bytes),
            false => None,
        };
        sent.clear();
        sent.shrink_to(1 << 20);
        self.sent = sent;
        form
    }

    fn form_of(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        sent: &[u8],
    ) -> Option<Structured> {
        let recipe = subject.recipe?;
        let messages = subject.messages.as_deref()?;
        let max_tokens = attempt.max_tokens.map(u32::try_from).transpose();
        let Ok(max_tokens) = max_tokens else {
            self.tell(subject, attempt, (Check::Rendering, "its token limit is no such number"));
            return None;
        };
        if attempt.body.is_none() && max_tokens == recipe.max_tokens {
            // The request's own body, which has been held against its row already.
            return subject.form;
        }
        let gives = |form: &&Structured| recipe.body(**form, messages, max_tokens) == sent;
        let form = recipe.forms().iter().find(gives).copied();
        if form.is_none() {
            let words =
                "its prompt, row and token limit give another body than the one that was sent";
            self.tell(subject, attempt, (Check::Rendering, words));
        }
        form
    }

    /// Once a schema has been refused, words are asked with, and not before.
    fn asked_as_then(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        form: Option<Structured>,
    ) {
        let Some((recipe, form)) = subject.recipe.zip(form) else { return };
        let Some(from) = recipe.in_words_from_ms.filter(|_| recipe.forms().len() == 2) else {
            return;
        };
        let is_as_then = match form {
            Structured::Schema => attempt.promised_at_ms <= from,
            Structured::Words => attempt.promised_at_ms >= from,
        };
        if !is_as_then {
            let words =
                "it asks for the form of its answer otherwise than its prompt did at that time";
            self.tell(subject, attempt, (Check::Rendering, words));
        }
    }

    /// Counts its place in its batch.
    fn place(&mut self, subject: &Subject<'_>, attempt: &AttemptEvidence, own: &[u8]) {
        let Some(id) = attempt.batch_id else { return };
        let Some(batch) = self.ground.batches.get(&id) else { return };
        let endpoint = batch.endpoint.or(subject.recipe.map(|recipe| recipe.endpoint));
        let is_other = subject.recipe.is_some_and(|recipe| {
            recipe.model != batch.model || Some(recipe.endpoint) != batch.endpoint
        });
        let custom_id = crate::domain::custom_id(&batch.token, AttemptId(attempt.id));
        let line_bytes = match (&attempt.body, endpoint) {
            (None, Some(endpoint)) if subject.has_body => {
                Some(input_line_bytes(&custom_id, endpoint, own))
            }
            (Some(_), Some(endpoint)) => self
                .line_of_sent(subject, attempt)
                .map(|body| input_line_bytes(&custom_id, endpoint, &body)),
            (_, _) => None,
        };
        let is_wrong_file = match attempt.result_file.as_deref() {
            Some("output") => !batch.has_output,
            Some("error") => !batch.has_errors,
            Some(_) | None => false,
        };
        let tally = self.tally.batches.entry(id).or_default();
        tally.places += 1;
        tally.open += i64::from(attempt.outcome.is_none());
        tally.is_uncertain |= line_bytes.is_none();
        tally.line_bytes += line_bytes.unwrap_or_default() as i64;
        let first = (attempt.id, attempt.promised_at_ms, attempt.run_id);
        tally.first = Some(tally.first.map_or(first, |known| known.min(first)));
        if is_other {
            self.tell(
                subject,
                attempt,
                (Check::Batch, "it is in a batch of another model or endpoint"),
            );
        }
        if is_wrong_file {
            self.tell(
                subject,
                attempt,
                (Check::Batch, "its line is said to be in a file that its batch does not have"),
            );
        }
        if attempt.result_line.is_some_and(|line| line < 1)
            || attempt.result_line.is_some() != attempt.result_file.is_some()
        {
            self.tell(subject, attempt, (Check::Attempt, "its place in the results is none"));
        }
        if attempt.reply.is_some() != attempt.result_line.is_some() {
            self.tell(
                subject,
                attempt,
                (
                    Check::Attempt,
                    "it has a line of results without its place, or a place without its line",
                ),
            );
        }
    }

    fn line_of_sent(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
    ) -> Option<Vec<u8>> {
        let mut sent = Vec::new();
        let packed = attempt.body.as_ref()?;
        self.unpack((packed, "body"), subject.evidence.prompt_id, &mut sent).ok()?;
        Some(sent)
    }

    /// A promise has nothing but itself.
    fn promise(&mut self, subject: &Subject<'_>, attempt: &AttemptEvidence) {
        let is_bare = attempt.counts() == [None; 5]
            && attempt.cost_nanousd.is_none()
            && attempt.status_code.is_none()
            && attempt.error.is_none()
            && attempt.finish_reason.is_none()
            && attempt.served_model.is_none()
            && attempt.provider_request_id.is_none()
            && attempt.result_file.is_none();
        if !is_bare && attempt.outcome.is_none() {
            self.tell(
                subject,
                attempt,
                (Check::Attempt, "it has no outcome, and something that only an outcome brings"),
            );
        }
    }

    fn without_reply(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        outcome: Outcome,
    ) {
        use FailureClass::{
            BatchCancelled, BatchExpired, BatchFailed, Connection, MalformedReply,
            MissingFromBatch, Timeout, Unreachable,
        };
        let is_bare = attempt.counts() == [None; 5]
            && is_cost_of_silence(attempt, outcome)
            && attempt.status_code.is_none()
            && attempt.finish_reason.is_none()
            && attempt.served_model.is_none()
            && attempt.provider_request_id.is_none();
        let batch =
            attempt.batch_id.map(|id| self.ground.batches.get(&id).and_then(|batch| batch.ended));
        let wanted: &[FailureClass] = match batch {
            None => &[Timeout, Connection, Unreachable, MalformedReply],
            Some(Some(BatchEnd::Expired)) => &[BatchExpired],
            Some(Some(BatchEnd::Cancelled)) => &[BatchCancelled],
            Some(Some(BatchEnd::Failed)) => &[BatchFailed],
            Some(Some(BatchEnd::Completed) | None) => &[MissingFromBatch],
        };
        match outcome {
            Outcome::Answered | Outcome::Truncated => {
                self.tell(
                    subject,
                    attempt,
                    (Check::Reply, "it brought text, and its reply is not there"),
                );
            }
            Outcome::Failed(class) if !wanted.contains(&class) => {
                let words = format!(
                    "it failed as {class}, which takes a reply or another batch, and there is none"
                );
                self.tell(subject, attempt, (Check::Reply, &words));
            }
            Outcome::InDoubt if attempt.error.is_some() => {
                self.tell(subject, attempt, (Check::Attempt, "it is in doubt, and has an error"));
            }
            Outcome::Failed(_) if attempt.error.is_none() => {
                self.tell(subject, attempt, (Check::Attempt, "it failed, and does not say why"));
            }
            Outcome::Failed(class) if !is_told_so(class, attempt) => {
                let words =
                    "its error is not what is said of a request that its batch has no line for";
                self.tell(subject, attempt, (Check::Attempt, words));
            }
            Outcome::Failed(_) | Outcome::InDoubt => {}
        }
        if !is_bare {
            self.tell(
                subject,
                attempt,
                (Check::Attempt, "it has no reply, and something that only a reply brings"),
            );
        }
    }

    fn read_again(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        (form, reply): (Option<Structured>, &[u8]),
    ) {
        let Some(recipe) = subject.recipe else { return };
        let again = match attempt.batch_id {
            None => call_again(recipe, attempt, (form, reply)),
            Some(id) => self.line_again(subject, attempt, (id, recipe, reply)),
        };
        let again = match again {
            Ok(again) => again,
            Err(words) => return self.tell(subject, attempt, (Check::Reply, &words)),
        };
        let usage = again.judged.reading.usage;
        let (usage, is_counted) = self.ground.usage(attempt, subject.evidence.prompt_id, usage);
        let mut wrong = compare(attempt, &again);
        if !is_counted {
            wrong.push("its number of tokens is not the one in its reply".to_owned());
        }
        for words in wrong {
            self.tell(subject, attempt, (Check::Reading, &words));
        }
        let knows_words = self.ground.runs.get(&attempt.run_id).is_some_and(|run| run.knows_words);
        if knows_words && !again.has_other_words && again.judged.error != attempt.error {
            self.tell(
                subject,
                attempt,
                (Check::Reading, "its error is not what its reply tells of"),
            );
        }
        self.cost(subject, attempt, (recipe, usage, again.judged.outcome));
    }

    fn line_again(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        (id, recipe, reply): (i64, &Recipe, &[u8]),
    ) -> Result<Again, String> {
        let batch = self.ground.batches.get(&id).ok_or("its batch is not there")?;
        let endpoint = batch.endpoint.ok_or("its batch has no endpoint that we know")?;
        let line = result_line(endpoint, reply);
        let (custom_id, line) = match line {
            Ok(line) if reply.len() < MAX_LINE_BYTES => (line.custom_id.clone(), Some(line)),
            Ok(line) => (line.custom_id, None),
            Err(Garbled { custom_id }) => (custom_id, None),
        };
        let owner = custom_id.as_deref().and_then(|custom_id| attempt_of(custom_id, &batch.token));
        if owner != Some(AttemptId(attempt.id)) {
            self.tell(
                subject,
                attempt,
                (Check::Reply, "its line of results is not for this attempt of this batch"),
            );
        }
        let (reading, status_code, request_id) = if let Some(line) = line {
            (line.reading, line.status_code, line.provider_request_id)
        } else {
            let words = "the line of the batch's results cannot be read";
            (Reading::failed(FailureClass::MalformedReply, words), None, None)
        };
        let is_in_words =
            recipe.in_words_from_ms.is_some_and(|from| attempt.promised_at_ms >= from);
        let form = match recipe.forms() {
            [only] => *only,
            _ if is_in_words => Structured::Words,
            _ => Structured::Schema,
        };
        let judged = judged((&recipe.check, None), form, reading);
        let provider_request_id = request_id.or_else(|| judged.reading.provider_request_id.clone());
        let status_code = status_code.map(i64::from);
        Ok(Again {
            judged,
            status_code,
            provider_request_id,
            id_is_inside: true,
            has_other_words: false,
        })
    }

    /// Holds the cost against the price that its run went by; where that has not said, against the one that is known now, and
    /// what else it may be is decided when all is read.
    fn cost(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        (recipe, usage, outcome): (&Recipe, Option<Usage>, Outcome),
    ) {
        let Some(usage) = usage else {
            if !is_cost_of_uncounted(attempt, outcome) {
                self.tell(
                    subject,
                    attempt,
                    (Check::Cost, "it has a cost, and its reply counts no tokens"),
                );
            }
            return;
        };
        let is_batch = attempt.batch_id.is_some();
        if let Some(prices) = self.ground.prices(attempt, subject.evidence.prompt_id) {
            let price = if is_batch { prices.batch } else { prices.realtime };
            if attempt.cost_nanousd != price.map(|price| price.of(usage).0) {
                let words =
                    "its cost is not the one that its tokens had in the run that settled it";
                self.tell(subject, attempt, (Check::Cost, words));
            }
            return;
        }
        let price = if is_batch { recipe.price.batch } else { recipe.price.realtime };
        let listed = price.map(|price| price.of(usage));
        let finding = |words: &str| subject.finding(Check::Cost, words).of_attempt(attempt.id);
        let group =
            PriceGroup { run: attempt.run_id, prompt: subject.evidence.prompt_id, is_batch };
        let tally = self.tally.prices.entry(group).or_default();
        match attempt.cost_nanousd.map(NanoUsd) {
            cost if cost.is_some() && cost == listed => tally.listed += 1,
            None => {
                tally.unpriced += 1;
                if tally.unknown.len() < WAITING {
                    tally
                        .unknown
                        .push(finding("it has no cost, and others of its run and prompt have one"));
                }
            }
            Some(NanoUsd(cost)) => {
                tally.other += 1;
                if tally.others.len() < WAITING || cost < 0 {
                    tally.others.push(finding("its cost is not the one of its tokens, as it is for others of its run and prompt"));
                }
                if cost < 0 {
                    self.tell(subject, attempt, (Check::Cost, "its cost is below zero"));
                }
            }
        }
    }

    fn count(
        &mut self,
        subject: &Subject<'_>,
        attempt: &AttemptEvidence,
        form: Option<Structured>,
    ) {
        let tally = self.tally.prompts.entry(subject.evidence.prompt_id).or_default();
        let earlier = |known: Option<i64>| {
            Some(known.map_or(attempt.promised_at_ms, |at| at.min(attempt.promised_at_ms)))
        };
        if attempt.error_class.as_deref() == Some(FailureClass::SchemaUnsupported.as_str()) {
            tally.schema_refused_ms = earlier(tally.schema_refused_ms);
        }
        let was_by_schema = subject.recipe.is_some_and(|recipe| recipe.forms().len() == 2);
        if was_by_schema && form == Some(Structured::Words) {
            tally.first_words_ms = earlier(tally.first_words_ms);
        }
        if let (None, Some(cost), Some("answered" | "truncated")) =
            (attempt.batch_id, attempt.cost_nanousd, attempt.outcome.as_deref())
        {
            tally.priced += 1;
            tally.cost = tally.cost.saturating_add(cost);
        }
    }
}

/// Says whether an attempt without a reply costs what it must. Without a sum set aside it may be of a time when that was
/// not told apart.
fn is_cost_of_silence(attempt: &AttemptEvidence, outcome: Outcome) -> bool {
    match (attempt.cost_nanousd, attempt.batch_id) {
        // What its batch was said to have done decides.
        (None | Some(0), Some(_)) if outcome != Outcome::InDoubt => true,
        (None, _) if attempt.reserved_nanousd.is_none() => true,
        (cost, _) => cost.map(NanoUsd) == bill(None, None, (outcome, None)),
    }
}

/// Says whether an attempt whose reply counts no tokens costs what it must; the same holds of older ones.
fn is_cost_of_uncounted(attempt: &AttemptEvidence, outcome: Outcome) -> bool {
    let before = if outcome.has_text() { None } else { Some(0) };
    let status = attempt.status_code.and_then(|status| u16::try_from(status).ok());
    let cost = attempt.cost_nanousd;
    cost.map(NanoUsd) == bill(None, None, (outcome, status))
        || (attempt.reserved_nanousd.is_none() && cost == before)
}

/// Says whether an error without a reply is in our own words, where it is one of ours.
fn is_told_so(class: FailureClass, attempt: &AttemptEvidence) -> bool {
    let Some(words) = words_without_line(class) else { return true };
    let told = attempt.error.as_deref().and_then(|error| error.strip_prefix(words));
    // A batch that says why adds it.
    told.is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
}

fn outcome(attempt: &AttemptEvidence) -> Option<Outcome> {
    outcome_of(attempt.outcome.as_deref(), attempt.error_class.as_deref())
}

fn call_again(
    recipe: &Recipe,
    attempt: &AttemptEvidence,
    (form, reply): (Option<Structured>, &[u8]),
) -> Result<Again, String> {
    let status = attempt.status_code.and_then(|status| u16::try_from(status).ok());
    let status = status.ok_or("it has a reply without a status")?;
    let reading = reading(recipe.endpoint, status, &ReplyHeaders::default(), reply);
    let judged = judged((&recipe.check, None), form.unwrap_or(Structured::Words), reading);
    Ok(Again {
        status_code: Some(i64::from(status)),
        provider_request_id: judged.reading.provider_request_id.clone(),
        id_is_inside: false,
        // A redirect's words name where it leads, which stood in its head.
        has_other_words: (300..=399).contains(&status),
        judged,
    })
}

/// Says what of an attempt is not what its reply says.
fn compare(attempt: &AttemptEvidence, again: &Again) -> Vec<String> {
    let Judged { outcome: read, answer, reading, error: _ } = &again.judged;
    let mut wrong = Vec::new();
    if outcome(attempt) != Some(*read) {
        let on_record = outcome(attempt).map_or_else(|| "nothing".to_owned(), said);
        wrong.push(format!("its reply reads as {}, and {on_record} is on record", said(*read)));
    }
    let id = &again.provider_request_id;
    let is_same_id = match again.id_is_inside {
        true => *id == attempt.provider_request_id,
        // Mostly it stands in the head of the reply, which is not kept.
        false => attempt.provider_request_id.is_some() || id.is_none(),
    };
    let parts = [
        ("answer", *answer == attempt.answer),
        ("finish reason", reading.finish_reason == attempt.finish_reason),
        ("model", reading.served_model == attempt.served_model),
        ("status", again.status_code == attempt.status_code),
        ("id at the provider", is_same_id),
    ];
    let others = parts.into_iter().filter(|(_, is_same)| !is_same);
    wrong.extend(others.map(|(name, _)| format!("its {name} is not the one in its reply")));
    wrong
}

fn said(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(class) => format!("failed ({class})"),
        Outcome::Answered | Outcome::Truncated | Outcome::InDoubt => outcome.as_str().to_owned(),
    }
}
