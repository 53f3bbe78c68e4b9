//! Text that is the same in all requests, and whether the provider can cache it.
//!
//! Providers cache what requests begin with, from 1,024 tokens on. A long text that all requests have in common and that
//! does not stand at their beginning is paid for in full each time.

use std::borrow::Cow;

use crate::domain::{Message, PromptSpec};

/// From so many tokens on the beginning of a request is cached.
pub(super) const LEAST_CACHED: u64 = 1_024;
/// Fewer bytes than this are never so many tokens' worth of a look.
const LEAST_BYTES: usize = 1_024;

/// Long text that requests have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Constant {
    /// What all of them begin with.
    pub(super) beginning: String,
    /// The longest text that stands in all of them, and after their beginning.
    pub(super) later: String,
}

/// Finds what these requests of a prompt have in common; nothing where there are too few to tell.
pub(super) fn find(spec: &PromptSpec, requests: &[Vec<Message>]) -> Constant {
    let texts: Vec<String> = requests.iter().map(|messages| whole(messages)).collect();
    let [first, others @ ..] = texts.as_slice() else { return Constant::default() };
    if others.iter().filter(|other| *other != first).count() < 2 {
        return Constant::default();
    }
    let beginning = others.iter().fold(first.as_str(), |common, other| prefix(common, other));
    let rest: Vec<&str> = texts.iter().map(|text| &text[beginning.len()..]).collect();
    let end = rest.iter().fold(rest[0], |common, other| suffix(common, other));
    // What stands between two cells is only found by what the prompt says there.
    let literals = spec.messages.iter().flat_map(|message| literals(&message.template));
    let in_all = |text: &Cow<'_, str>| rest.iter().all(|rest| rest.contains(text.as_ref()));
    let later = literals
        .map(Cow::Borrowed)
        .filter(|text| text.len() >= LEAST_BYTES)
        .filter(in_all)
        .chain([Cow::Borrowed(end)])
        .max_by_key(|text| text.len());
    Constant {
        beginning: beginning.to_owned(),
        later: later.map(Cow::into_owned).unwrap_or_default(),
    }
}

/// Returns the messages as one text, which a change of role interrupts.
fn whole(messages: &[Message]) -> String {
    let line = |message: &Message| format!("\u{1}{}\u{2}{}", message.role.as_str(), message.text);
    messages.iter().map(line).collect()
}

/// Returns what stands in a template between its tags.
fn literals(template: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = template;
    loop {
        let tag = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")];
        let open = tag.iter().filter_map(|(open, end)| Some((rest.find(open)?, *end))).min();
        let Some((at, end)) = open else { break };
        found.push(&rest[..at]);
        rest = rest[at..].find(end).map_or("", |length| &rest[at + length + end.len()..]);
    }
    found.push(rest);
    found.into_iter().map(str::trim).collect()
}

fn prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.char_indices().zip(b.chars()).find(|((_, a), b)| a != b);
    let end = same.map_or(a.len().min(b.len()), |((at, _), _)| at);
    &a[..end]
}

fn suffix<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.char_indices().rev().zip(b.chars().rev()).find(|((_, a), b)| a != b);
    let start =
        same.map_or(a.len().saturating_sub(b.len()), |((at, char), _)| at + char.len_utf8());
    &a[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        AnswerFormat, Endpoint, MessageTemplate, ModelName, Role, Structured, TokenLimitField,
    };

    fn spec(template: &str) -> PromptSpec {
        PromptSpec {
            source: String::new(),
            messages: vec![MessageTemplate { role: Role::User, template: template.to_owned() }],
            model: ModelName::parse("gpt-4o").unwrap(),
            endpoint: Endpoint::ChatCompletions,
            max_tokens: None,
            max_tokens_limit: None,
            token_limit_field: TokenLimitField::MaxTokens,
            answer: AnswerFormat::Text,
            structured: Structured::Words,
            parameters: serde_json::Map::new(),
        }
    }

    fn rendered(texts: &[String]) -> Vec<Vec<Message>> {
        let message = |text: &String| vec![Message { role: Role::User, text: text.clone() }];
        texts.iter().map(message).collect()
    }

    #[test]
    fn what_comes_first_is_told_from_what_comes_later() {
        let long = "수칙을 지켜 주세요. ".repeat(200);
        let cells = ["하나", "둘", "셋 넷"];
        let at_the_end: Vec<String> = cells.map(|cell| format!("{cell}: {long}")).to_vec();
        let found = find(&spec("{{ a }}: "), &rendered(&at_the_end));
        assert_eq!(
            (found.beginning.as_str(), found.later),
            ("\u{1}user\u{2}", format!(": {long}"))
        );

        let at_the_start: Vec<String> = cells.map(|cell| format!("{long}{cell}")).to_vec();
        let found = find(&spec("{{ a }}"), &rendered(&at_the_start));
        assert_eq!(found.beginning, format!("\u{1}user\u{2}{long}"));
        assert_eq!(found.later, "");
    }

    #[test]
    fn what_stands_between_two_cells_is_found_too() {
        let long = "Keep to these rules. ".repeat(100);
        let template = format!("{{{{ a }}}} {long}{{% if b %}}{{{{ b }}}}{{% endif %}}.");
        let texts = ["x", "yy", "z"].map(|cell| format!("{cell} {long}{cell}."));
        let found = find(&spec(&template), &rendered(&texts));
        assert_eq!(found.later, long.trim());
        // One request, or the same one again, says nothing of what is constant.
        assert_eq!(find(&spec(&template), &rendered(&texts[..1])), Constant::default());
        let same = vec![texts[0].clone(); 5];
        assert_eq!(find(&spec(&template), &rendered(&same)), Constant::default());
        assert_eq!(find(&spec(&template), &[]), Constant::default());
    }

    #[test]
    fn common_ends_never_cut_a_character() {
        assert_eq!((prefix("각나", "각다"), suffix("나각", "다각")), ("각", "각"));
        assert_eq!((prefix("가", "갸"), suffix("가", "나")), ("", ""));
        assert_eq!((prefix("ab", "abc"), suffix("bc", "abc")), ("ab", "bc"));
        assert_eq!((prefix("abc", "ab"), suffix("abc", "bc")), ("ab", "bc"));
    }
}
