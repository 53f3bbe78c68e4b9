//! Rows as a person names them on the command line, and what is said where no row has that name.

use super::failure::Failure;
use super::text::{count, moment};
use super::{Context, shell_word};
use crate::machine::closest::closest;
use crate::store::{Store, StoreError};

/// What the words of a failure are made for.
pub(crate) struct Named<'a> {
    /// The command as it is typed, without the program: `show`, `retry --rows`.
    pub(crate) command: &'a str,
    /// What else a name could have been, besides a row: `row`, `row or source`.
    pub(crate) thing: &'a str,
    /// Further names that would have been right.
    pub(crate) others: Vec<String>,
    /// What the failure ends with, such as `nothing was removed`.
    pub(crate) consequence: &'a str,
}

/// Says that names stand for nothing, with the nearest way out of it.
pub(crate) fn unknown(
    store: &Store,
    names: &[String],
    named: &Named<'_>,
    context: &Context,
) -> Result<Failure, StoreError> {
    let Some(first) = names.first() else { return Ok(Failure::error("no row was named")) };
    let mut message = match position_of(first) {
        Some(position) => format!("there is no row at position {position}"),
        None => format!("there is no {} {first:?}", named.thing),
    };
    if names.len() > 1 {
        message.push_str(&format!(", nor {}", count(names.len() as u64 - 1, "other name")));
    }
    if !named.consequence.is_empty() {
        message.push_str("; ");
        message.push_str(named.consequence);
    }
    let failure = Failure::error(message);
    let Some((lowest, highest)) = store.positions()? else {
        let add = format!("the table has no rows; `{} add FILE` adds some", context.program());
        return Ok(failure.hint(add));
    };
    let rows = count(store.live_rows()?, "row");
    let failure = match likely(store, first, named)? {
        Some(word) => failure.hint(format!(
            "did you mean `{} {} {}`?",
            context.program(),
            named.command,
            shell_word(&word)
        )),
        None => failure,
    };
    let failure = match store.removed_at(first)? {
        Some(at) => failure.hint(format!(
            "that row was removed at {}; adding its file again brings it back",
            moment(at)
        )),
        None => failure,
    };
    let keyless = store.sources()?.iter().all(|source| source.key_column.is_none());
    let by_key = if keyless {
        "these rows were added without --key, so that their position is the best name"
    } else {
        "a row is named by its key or its position"
    };
    Ok(failure.hint(format!("{by_key}: {rows}, from '#{lowest}' to '#{highest}'")))
}

/// Returns what was most likely meant: a position without its `#`, or a name that is nearly right.
fn likely(store: &Store, name: &str, named: &Named<'_>) -> Result<Option<String>, StoreError> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let with_sign = format!("#{name}");
    if is_number && store.find_row(&with_sign)?.is_some() {
        return Ok(Some(with_sign));
    }
    if position_of(name).is_some() {
        return Ok(None);
    }
    let near = store.keys_near(name)?;
    let candidates = named.others.iter().chain(&near).map(String::as_str);
    Ok(closest(name, candidates).map(str::to_owned))
}

fn position_of(name: &str) -> Option<i64> {
    name.strip_prefix('#').and_then(|digits| digits.parse().ok())
}
