//! Rows as a person names them on the command line, and what is said where no row has that name.

use super::failure::Failure;
use super::text::{count, moment};
use super::{Context, shell_word};
use crate::machine::closest::closest;
use crate::store::{Store, StoreError};

/// What the words of a failure are made for.
pub(crate) struct Wording<'a> {
    /// The command as it is typed, without the program: `show`, `retry --rows`.
    pub(crate) command: &'a str,
    /// What a name stands for: `row`, `row or source`.
    pub(crate) thing: &'a str,
    /// Names that are right besides those of rows.
    pub(crate) others: Vec<String>,
    /// What the message ends with, such as `nothing was removed`; may be empty.
    pub(crate) consequence: &'a str,
}

/// Says that names stand for nothing, with the nearest ways out.
pub(crate) fn unknown(
    store: &Store,
    names: &[String],
    wording: &Wording<'_>,
    context: &Context,
) -> Result<Failure, StoreError> {
    let first = names.first().map_or("", String::as_str);
    let mut failure = Failure::error(message(first, names.len() as u64, wording));
    let program = context.program();
    let Some((lowest, highest)) = store.positions()? else {
        return Ok(failure.hint(format!("the table has no rows; `{program} add FILE` adds some")));
    };
    if let Some(at) = store.removed_at(first)? {
        let at = moment(at);
        failure = failure
            .hint(format!("that row was removed at {at}; adding its file again, with the same --key, brings it back"));
    } else if let Some(word) = likely(store, first, wording)? {
        let word = shell_word(&word);
        failure = failure.hint(format!("did you mean `{program} {} {word}`?", wording.command));
    }
    let names = if store.sources()?.iter().all(|source| source.key_column.is_none()) {
        "these rows were added without --key, so that their position is the best name"
    } else {
        "a row is named by its key or its position"
    };
    let rows = count(store.live_rows()?, "row");
    Ok(failure.hint(format!("{names}: {rows}, from '#{lowest}' to '#{highest}'")))
}

fn message(first: &str, names: u64, wording: &Wording<'_>) -> String {
    let what = match position_of(first) {
        Some(position) => format!("there is no row at position {position}"),
        None => format!("there is no {} {first:?}", wording.thing),
    };
    let more = match names.saturating_sub(1) {
        0 => String::new(),
        more => format!(", nor {}", count(more, "other name")),
    };
    match wording.consequence {
        "" => what + &more,
        consequence => format!("{what}{more}; {consequence}"),
    }
}

/// Returns what was most likely meant: a position without its `#`, or a name that is nearly right.
fn likely(store: &Store, name: &str, wording: &Wording<'_>) -> Result<Option<String>, StoreError> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let with_sign = format!("#{name}");
    if is_number && store.find_row(&with_sign)?.is_some() {
        return Ok(Some(with_sign));
    }
    if position_of(name).is_some() {
        return Ok(None);
    }
    let near = store.keys_near(name)?;
    let candidates = wording.others.iter().chain(&near).map(String::as_str);
    Ok(closest(name, candidates).map(str::to_owned))
}

fn position_of(name: &str) -> Option<i64> {
    name.strip_prefix('#').and_then(|digits| digits.parse().ok())
}
