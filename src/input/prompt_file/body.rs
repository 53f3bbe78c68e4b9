//! Takes a prompt's body apart into messages.

use super::error::{Attempt, Problem};
use super::front_matter::At;
use crate::domain::{MessageTemplate, Role};

/// A message while its lines are read.
struct Draft<'t> {
    role: Role,
    line: u64,
    lines: Vec<&'t str>,
}

/// Returns the messages of a body that starts on `body.line`.
///
/// A line that is nothing but `system:`, `user:` or `assistant:`, in any letter case, starts a
/// message, as in Prompty; a template that needs such a line writes `{{ 'user:' }}`. Without one,
/// the body is the one user message. Blank lines around a message are not part of it.
pub(super) fn messages(body: &At<&str>) -> Attempt<Vec<MessageTemplate>> {
    let mut drafts = vec![Draft { role: Role::User, line: body.line, lines: Vec::new() }];
    for (line, text) in (body.line..).zip(body.value.split('\n')) {
        if let Some(role) = marker(text) {
            drafts.push(Draft { role, line, lines: Vec::new() });
        } else if let Some(draft) = drafts.last_mut() {
            draft.lines.push(text);
        }
    }
    if drafts.len() > 1 {
        let before = drafts.remove(0);
        if let Some(at) = before.lines.iter().position(|line| !line.trim().is_empty()) {
            return Err(Problem::TextBeforeMessages.on(before.line + at as u64));
        }
    } else if body.value.trim().is_empty() {
        return Err(Problem::Empty.anywhere());
    }
    let messages = drafts.iter().map(message).collect::<Attempt<Vec<_>>>()?;
    if !messages.iter().any(|message| message.role == Role::User) {
        return Err(Problem::NoUserMessage.anywhere());
    }
    Ok(messages)
}

fn marker(line: &str) -> Option<Role> {
    let word = line.trim_end().strip_suffix(':')?;
    [Role::System, Role::User, Role::Assistant]
        .into_iter()
        .find(|role| word.eq_ignore_ascii_case(role.as_str()))
}

fn message(draft: &Draft<'_>) -> Attempt<MessageTemplate> {
    let first = draft.lines.iter().position(|line| !line.trim().is_empty());
    let last = draft.lines.iter().rposition(|line| !line.trim().is_empty());
    let (Some(first), Some(last)) = (first, last) else {
        return Err(Problem::EmptyMessage { role: draft.role }.on(draft.line));
    };
    let template = draft.lines[first..=last].join("\n");
    Ok(MessageTemplate { role: draft.role, template })
}
