//! Whether OpenAI would take a body: its specification as tables, and what it says when not.
//!
//! A `Rule` says what one value may be; an object's rule is a table of `Field`s. The tables of
//! the two endpoints stand in [`chat`] and [`responses`], with the demands that join several
//! fields, those of files and batches in [`storage`]. Objects are closed: OpenAI refuses a parameter
//! that it does not know, at any depth.
//! The wording of refusals, and their codes, are OpenAI's. They name parameters and, for a value
//! that is not among a few words, the value; never a text that was sent.

mod rule;
mod schema;

pub(super) mod chat;
pub(super) mod responses;
pub(super) mod storage;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::reply::Problem;

/// What the simulator knows of but does not do.
fn not_simulated(param: &str, what: &str) -> Problem {
    Problem::invalid(param, "unsupported_by_simulator", format!("the simulator does not {what}"))
}

/// Refuses `param` where it is there and holds something other than `null` or `false`.
fn refuse(body: &Value, param: &str, what: &str) -> Result<(), Problem> {
    match body.get(param) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(_) => Err(not_simulated(param, what)),
    }
}

/// Says whether a model is one of OpenAI's that reason: the o-series, and `gpt-5` and up.
fn is_reasoning(model: &str) -> bool {
    let starts = |prefix: &str| {
        model.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let generation = model.strip_prefix("gpt-").map(|rest| {
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse::<u32>()
    });
    ["o1", "o3", "o4"].into_iter().any(starts)
        || matches!(generation, Some(Ok(generation)) if generation >= 5)
}

/// Refuses a temperature or `top_p` other than 1 for the models that take no other.
///
/// Later models of the series take them when their effort is `none`, so only the first are held to it.
fn check_sampling(body: &Value, model: &str) -> Result<(), Problem> {
    let fixed = ["o1", "o3", "o4", "gpt-5"].into_iter().any(|series| {
        model.strip_prefix(series).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    });
    if !fixed || model.starts_with("gpt-5-chat") {
        return Ok(());
    }
    for param in ["temperature", "top_p"] {
        let value = body.get(param).and_then(Value::as_f64);
        if value.is_some_and(|value| (value - 1.0).abs() > f64::EPSILON) {
            return Err(Problem::invalid(
                param,
                "unsupported_value",
                format!(
                    "Unsupported value: '{param}' does not support {} with this model. Only the \
                     default (1) value is supported.",
                    value.unwrap_or_default()
                ),
            ));
        }
    }
    Ok(())
}

/// Refuses JSON mode where no message has the word "json", as OpenAI does.
fn check_json_word(texts: &[&str], param: &str, field: &str) -> Result<(), Problem> {
    let has_word =
        |text: &&str| text.as_bytes().windows(4).any(|window| window.eq_ignore_ascii_case(b"json"));
    if texts.iter().any(has_word) {
        return Ok(());
    }
    let message = format!(
        "'{param}' must contain the word 'json' in some form, to use '{field}' of type \
         'json_object'."
    );
    Err(Problem { code: None, ..Problem::invalid(param, "", message) })
}
