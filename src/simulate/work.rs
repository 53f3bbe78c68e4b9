//! One request worked on: from its body to the completion that answers it, and its charge.
//!
//! A call and a line of a batch are worked on by the same code, so that the same body gets the same
//! answer, and is told the same mistakes, on either route. Who may call, the pace, and how a reply
//! leaves are the business of [`super::call`] and [`super::batches`].

use bytes::Bytes;
use fastrand::Rng;
use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::Manner;
use super::completion::{Answer, Ask, Completion, Finish, Overflow, Said};
use super::draws::{self, Purpose};
use super::fault::{Fault, Moment};
use super::faults::Draw;
use super::ledger::{Charge, lock};
use super::reply::{INVALID, Problem, Stamp};
use super::service::State;
use super::{Takes, answer, chat, check, models, responses, tokens};
use crate::domain::{Endpoint, Usage};

/// A body and what is known of it before it is read.
pub(super) struct Call<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) bytes: Bytes,
    /// SHA-256 of the bytes.
    pub(super) body: [u8; 32],
    /// How often these bytes came before.
    same_before: u64,
    /// The batch that it is a line of.
    batch: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// Takes a body in; the ledger counts it.
    pub(super) fn arrive(
        state: &State,
        endpoint: Endpoint,
        bytes: Bytes,
        batch: Option<&'a str>,
    ) -> Self {
        let body: [u8; 32] = Sha256::digest(&bytes).into();
        let same_before = state.ledger.arrive(body, batch.is_some());
        Self { endpoint, bytes, body, same_before, batch }
    }

    /// Reads the body and holds it against the specification.
    pub(super) fn read(&self, takes: Takes) -> Result<Value, Problem> {
        let parsed = parse(&self.bytes)?;
        if takes == Takes::WhatOpenAiDoes {
            check(self.endpoint, &parsed)?;
        }
        Ok(parsed)
    }

    /// Returns the stream of numbers for one use of chance, this time.
    pub(super) fn rng(&self, seed: u64, purpose: fn(u64) -> Purpose) -> Rng {
        draws::rng(seed, &self.body, purpose(self.same_before))
    }
}

/// Reads JSON that was sent.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map_err(|_| {
        let told = "We could not parse the JSON body of your request. (HINT: This likely means \
                    you aren't using your HTTP library correctly. The OpenAI API expects a JSON \
                    payload, but what was sent was not valid JSON.)";
        Problem::new(StatusCode::BAD_REQUEST, INVALID, None, told)
    })
}

fn check(endpoint: Endpoint, body: &Value) -> Result<(), Problem> {
    match endpoint {
        Endpoint::ChatCompletions => check::chat::check(body),
        Endpoint::Responses => check::responses::check(body),
    }
}

fn read_ask(endpoint: Endpoint, body: &Value) -> Ask<'_> {
    match endpoint {
        Endpoint::ChatCompletions => chat::read(body),
        Endpoint::Responses => responses::read(body),
    }
}

/// Counts the tokens of a body's prompt; a body that will be refused has none.
pub(super) fn prompt_tokens(endpoint: Endpoint, body: &[u8], takes: Takes) -> u64 {
    let is_good = |parsed: &Value| takes == Takes::Anything || check(endpoint, parsed).is_ok();
    let parsed = parse(body).ok().filter(is_good);
    parsed.map_or(0, |parsed| tokens::count_prompt(&read_ask(endpoint, &parsed).turns))
}

/// A request that nothing is wrong with.
pub(super) struct Good<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) ask: Ask<'a>,
    parsed: &'a Value,
    input_tokens: u64,
}

impl<'a> Good<'a> {
    /// Checks what the specification cannot know of: the models that are served, and their context.
    pub(super) fn admit(
        state: &State,
        call: &'a Call<'a>,
        parsed: &'a Value,
    ) -> Result<Self, Problem> {
        let ask = read_ask(call.endpoint, parsed);
        if !models::is_served(&state.settings.models, ask.model) {
            return Err(Problem::no_model(ask.model));
        }
        let (ask, input_tokens) = count_input(state, ask)?;
        Ok(Self { call, ask, parsed, input_tokens })
    }

    /// Draws the fault that strikes at `moment`, and counts it if one does.
    pub(super) fn draw_fault(&self, state: &State, moment: Moment) -> Option<Fault> {
        let before = state.draws.count(moment);
        let same_before = self.call.same_before;
        let unit = self.call.rng(state.settings.seed, Purpose::Fault).f64();
        let fault = state.settings.faults.pick(Draw { moment, before, same_before, unit })?;
        // A retry with a higher limit is another body of the same conversation, and must get through.
        if fault == Fault::Length && !lock(&state.truncated).insert(conversation(&self.ask)) {
            return None;
        }
        state.ledger.count_fault(fault);
        Some(fault)
    }

    /// Makes the completion, and charges it.
    pub(super) fn complete(self, state: &State, fault: Option<Fault>) -> Result<Made<'a>, Problem> {
        let rng = self.call.rng(state.settings.seed, |_| Purpose::Answer);
        let likeness = &state.settings.likeness;
        let manner = Manner {
            fault,
            length: likeness.length(self.ask.model, || conversation(&self.ask)),
            in_words: likeness.asked_in_words(&self.ask),
        };
        let completion = answer::complete(&self.ask, self.input_tokens, manner, rng);
        let made = Made { good: self, fault, completion };
        made.charge(state)?;
        Ok(made)
    }
}

/// A completion that was charged.
pub(super) struct Made<'a> {
    pub(super) good: Good<'a>,
    pub(super) fault: Option<Fault>,
    completion: Completion,
}

impl Made<'_> {
    fn charge(&self, state: &State) -> Result<(), Problem> {
        let call = self.good.call;
        let charge = Charge {
            at_ms: state.now().0,
            endpoint: call.endpoint,
            model: self.good.ask.model,
            usage: self.completion.usage,
            fault: self.fault,
            batch: call.batch,
        };
        state.ledger.charge(call.body, &charge).map_err(|error| {
            let told = format!("the simulator cannot write its ledger: {error}");
            let code = "server_error";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, Some(code), told)
        })
    }

    /// Writes the reply's JSON, spoilt as ordered.
    pub(super) fn write(&self, state: &State) -> Value {
        let mut rng = self.good.call.rng(state.settings.seed, Purpose::Id);
        let created = state.now().0 / 1000;
        let stamp = Stamp { id: format!("{:032x}", rng.u128(..)), created };
        let (mut value, answers) = match self.good.call.endpoint {
            Endpoint::ChatCompletions => {
                (chat::write(&self.good.ask, &self.completion, &stamp), "choices")
            }
            Endpoint::Responses => {
                (responses::write(self.good.parsed, &self.completion, &stamp), "output")
            }
        };
        if self.fault == Some(Fault::WrongType) {
            value[answers] = json!("none");
        }
        value
    }

    /// Returns what was charged.
    pub(super) fn usage(&self) -> Usage {
        self.completion.usage
    }

    /// Says whether its answers are whole.
    pub(super) fn is_usable(&self) -> bool {
        self.completion.answers.iter().all(is_usable)
    }
}

fn is_usable(answer: &Answer) -> bool {
    answer.finish == Finish::Stop && matches!(answer.said, Said::Text(_))
}

/// Counts the prompt's tokens, and refuses what is longer than the context, or asks for a longer answer than the model
/// gives. One that asks for no limit gets the model's.
fn count_input<'a>(state: &State, ask: Ask<'a>) -> Result<(Ask<'a>, u64), Problem> {
    let model = state.settings.likeness.models.get(ask.model);
    let longest = model.and_then(|model| model.output_tokens);
    if let (Some(limit), Some(longest)) = (ask.limit, longest)
        && limit > longest
    {
        return Err(too_much(&ask, limit, longest));
    }
    let input = tokens::count_prompt(&ask.turns);
    // A model whose input is bounded by itself has room of its own for the answer.
    let (most, output) = match model.and_then(|model| model.input_tokens) {
        Some(most) => (most, 0),
        None => (u64::from(state.settings.context_tokens), ask.limit.unwrap_or(0)),
    };
    let limit = ask.limit.or(longest);
    if ask.overflow == Overflow::Dropped {
        return Ok((Ask { limit, ..ask }, input.min(most)));
    }
    if input.saturating_add(output) <= most {
        return Ok((Ask { limit, ..ask }, input));
    }
    Err(too_long(ask.endpoint, most, (input, output)))
}

/// Makes the 400 for a token limit that is larger than the model's longest answer.
fn too_much(ask: &Ask<'_>, limit: u64, longest: u64) -> Problem {
    let param = match ask.endpoint {
        Endpoint::ChatCompletions => "max_tokens",
        Endpoint::Responses => "max_output_tokens",
    };
    let told = format!(
        "{param} is too large: {limit}. This model supports at most {longest} completion tokens, \
         whereas you provided {limit}."
    );
    Problem::invalid(param, "invalid_value", told)
}

/// Makes the 400 for an input and an output of so many tokens, together more than `most`.
pub(super) fn too_long(endpoint: Endpoint, most: u64, (input, output): (u64, u64)) -> Problem {
    let (param, told) = match endpoint {
        Endpoint::Responses => (
            "input",
            "Your input exceeds the context window of this model. Please adjust your input and \
             try again."
                .to_owned(),
        ),
        Endpoint::ChatCompletions if input > most => (
            "messages",
            format!(
                "This model's maximum context length is {most} tokens. However, your messages \
                 resulted in {input} tokens. Please reduce the length of the messages."
            ),
        ),
        Endpoint::ChatCompletions => (
            "messages",
            format!(
                "This model's maximum context length is {most} tokens. However, you requested {} \
                 tokens ({input} in the messages, {output} in the completion). Please reduce the \
                 length of the messages or completion.",
                input.saturating_add(output)
            ),
        ),
    };
    Problem::invalid(param, "context_length_exceeded", told)
}

/// Names a model and its prompt, whatever else the body says.
fn conversation(ask: &Ask<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let turns = ask.turns.iter().flat_map(|turn| {
        turn.texts.iter().copied().chain([turn.role, turn.name.unwrap_or_default()])
    });
    for part in turns.chain([ask.model]) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
