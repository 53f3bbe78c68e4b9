//! Prompts on record, made ready to render, send, read and check.

use super::Context;
use super::failure::Failure;
use super::prices::PriceBook;
use super::server::{self, Place};
use crate::domain::{AnswerFormat, PromptSpec, Structured};
use crate::engine::{Task, TaskParts};
use crate::machine::answer_check::{AnswerCheck, strict_ready, wire_schema, words};
use crate::machine::render::Template;
use crate::machine::request::Policy;
use crate::provider::{Encoder, WireAnswer};
use crate::store::PromptRecord;

/// Makes the parts of a prompt on record.
pub(crate) fn parts(
    prompt: &PromptRecord,
    policy: Policy,
    book: &PriceBook,
) -> Result<TaskParts, Failure> {
    let spec = &prompt.spec;
    let wrong = |error: &dyn std::error::Error| {
        Failure::error(format!("prompt {} version {} cannot be used", prompt.name, prompt.version))
            .caused_by(error)
            .hint(format!(
                "`overnight prompt add FILE --name {}` makes the next version",
                prompt.name
            ))
    };
    Ok(TaskParts {
        price: book.of_prompt(spec),
        template: Template::compile(spec).map_err(|error| wrong(&error))?,
        encoder: encoder(spec, spec.structured),
        in_words: (wire_schema(&spec.answer).is_some() && spec.structured == Structured::Schema)
            .then(|| encoder(spec, Structured::Words)),
        check: AnswerCheck::compile(&spec.answer).map_err(|error| wrong(&error))?,
        policy,
    })
}

/// Makes the writer of a prompt's bodies, with the answer's form asked for in one of two ways.
fn encoder(spec: &PromptSpec, structured: Structured) -> Encoder {
    let answer = match (&spec.answer, structured) {
        (AnswerFormat::Text, _) => None,
        (format, Structured::Schema) => wire_schema(format).map(|schema| {
            let strict = strict_ready(&schema);
            WireAnswer::Schema { schema, strict }
        }),
        (format, Structured::Words) => words(format).map(WireAnswer::Words),
    };
    Encoder::new(spec, answer.unwrap_or(WireAnswer::Free))
}

/// Returns where a prompt's requests go.
pub(crate) fn place_of(
    prompt: &PromptRecord,
    given: Option<&str>,
    context: &Context,
) -> Result<Place, Failure> {
    server::place(server::provider(&prompt.spec.model)?, given, &context.settings)
}

/// Makes the task of a prompt, at its place; `embedded` is the base URL of the simulator in this process.
pub(crate) fn task(
    prompt: PromptRecord,
    (place, embedded): (&Place, Option<&str>),
    (policy, book): (Policy, &PriceBook),
    context: &Context,
) -> Result<Task, Failure> {
    let provider = server::provider(&prompt.spec.model)?;
    // Nothing is sent for a prompt that is no longer live.
    let (endpoint, needs_key) = (prompt.spec.endpoint, prompt.is_live);
    let at = (place, embedded);
    let server = server::server(provider, endpoint, at, needs_key, &context.settings)?;
    let parts = parts(&prompt, policy, book)?;
    Ok(Task::new(prompt, server, parts))
}
