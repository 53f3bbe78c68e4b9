//! Why a provider says a batch failed, and what that tells of the tokens it lets wait.

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess};

use crate::provider::decode::loose::{Count, Loose, Shape, from_object, object_shapes};
use crate::provider::decode::message::{Masking, one_line, short};

/// One entry of a failed batch's `errors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchProblem {
    /// The provider's own code, such as `invalid_json_line`.
    pub code: Option<String>,
    /// The provider's sentence, on one line and bounded.
    pub message: String,
    /// The line of the input file that it is about, from 1.
    pub line: Option<u64>,
}

/// A provider will not let more input tokens of this model wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimit {
    /// How many may wait in all, if it says so.
    pub told: Option<u64>,
}

/// Returns the limit that a batch failed at, if that is what any of its problems says.
pub fn token_limit(problems: &[BatchProblem]) -> Option<TokenLimit> {
    let mut found = None;
    for problem in problems {
        if let Some(limit) = limit_in(problem.code.as_deref().unwrap_or(""), &problem.message) {
            if limit.told.is_some() {
                return Some(limit);
            }
            found = Some(limit);
        }
    }
    found
}

/// Returns the limit on waiting tokens that a code or a sentence tells of.
pub(super) fn limit_in(code: &str, message: &str) -> Option<TokenLimit> {
    let message = message.to_lowercase();
    let is_named = code.eq_ignore_ascii_case("token_limit_exceeded");
    let is_said = message.contains("token_limit_exceeded")
        || (message.contains("enqueued token") && message.contains("limit"));
    (is_named || is_said).then(|| TokenLimit { told: told_number(&message) })
}

/// Finds the number in `limit: 2,000,000 enqueued tokens` or `configured limit of 30k for`, in lower case.
fn told_number(message: &str) -> Option<u64> {
    message.split("limit").skip(1).find_map(|after| {
        let after = after.trim_start_matches([' ', ':', '=', '(', '\u{a0}']);
        let after = ["of ", "is ", "at "]
            .iter()
            .find_map(|word| after.strip_prefix(word))
            .unwrap_or(after)
            .trim_start();
        amount(after)
    })
}

/// Reads the number at the start of a text: `2,000,000`, `90 000`, `1.5m`, `30k`, `2 million`.
fn amount(text: &str) -> Option<u64> {
    let (digits, rest) = grouped(text)?;
    let (fraction, rest) = decimals(rest);
    let whole: u64 = digits.parse().ok()?;
    let Some(unit) = unit(rest) else { return Some(whole) };
    let fraction = &fraction[..fraction.len().min(9)];
    let part = fraction.parse::<u64>().unwrap_or(0) * unit / 10_u64.pow(fraction.len() as u32);
    whole.checked_mul(unit)?.checked_add(part)
}

/// Takes a decimal fraction off, which only makes sense before a unit.
fn decimals(text: &str) -> (&str, &str) {
    let Some(after) = text.strip_prefix(['.', ',']) else { return ("", text) };
    let length = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let (fraction, rest) = after.split_at(length);
    if fraction.is_empty() || unit(rest).is_none() { ("", text) } else { (fraction, rest) }
}

/// Reads digits in groups of three, whatever stands between the groups. Returns them and what follows.
///
/// `1.500m` is one and a half million, `1.500` one and a half thousand: a dot before a unit is a decimal one.
fn grouped(text: &str) -> Option<(String, &str)> {
    let length = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (first, mut rest) = text.split_at(length);
    if first.is_empty() {
        return None;
    }
    let mut digits = first.to_owned();
    let mut separator = None;
    while digits.len() <= 18 {
        let mut chars = rest.chars();
        let Some(between) = chars.next() else { break };
        let after = chars.as_str();
        let is_separator = matches!(between, ',' | '.' | '_' | '\'' | ' ' | '\u{a0}' | '\u{202f}')
            && separator.is_none_or(|earlier| earlier == between);
        let Some((group, next)) = after.split_at_checked(3) else { break };
        let is_group = group.bytes().all(|byte| byte.is_ascii_digit())
            && !next.starts_with(|c: char| c.is_ascii_digit());
        let is_decimal = between == '.' && separator.is_none() && unit(next).is_some();
        if !is_separator || !is_group || first.len() > 3 || is_decimal {
            break;
        }
        digits.push_str(group);
        separator = Some(between);
        rest = next;
    }
    Some((digits, rest))
}

fn unit(text: &str) -> Option<u64> {
    let text = text.trim_start_matches([' ', '\u{a0}']);
    let length = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    match &text[..length] {
        "k" | "thousand" => Some(1_000),
        "m" | "mio" | "million" => Some(1_000_000),
        "b" | "bn" | "billion" => Some(1_000_000_000),
        _ => None,
    }
}

/// `errors` as it comes: a list under `data`, a bare list, one object, or a text.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<BatchProblem>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct OnWire {
    data: Loose<Vec<Loose<Entry>>>,
    code: Loose<Word>,
    message: Loose<String>,
    line: Loose<Count>,
}

/// One entry, which can be a bare text too.
struct Entry(BatchProblem);

#[derive(Default, Deserialize)]
#[serde(default)]
struct EntryOnWire {
    code: Loose<Word>,
    message: Loose<String>,
    line: Loose<Count>,
}

/// A code: a word, or a number for one.
struct Word(String);

object_shapes!(OnWire, EntryOnWire);

impl Shape<'_> for Word {
    fn text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(short(text)))
    }

    fn number(number: f64) -> Option<Self> {
        Some(Self(number.to_string()))
    }
}

impl<'de> Shape<'de> for Entry {
    fn text(text: &str) -> Option<Self> {
        said(text).map(Self)
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        let entry: Option<EntryOnWire> = from_object(object)?;
        Ok(entry
            .and_then(|EntryOnWire { code, message, line }| problem(code, message, line))
            .map(Self))
    }
}

impl<'de> Shape<'de> for Problems {
    fn text(text: &str) -> Option<Self> {
        said(text).map(|problem| Self(vec![problem]))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let entries = <Vec<Loose<Entry>> as Shape>::list(list)?;
        Ok(entries.map(all))
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        let Some(OnWire { data, code, message, line }) = from_object(object)? else {
            return Ok(None);
        };
        let one = || Self(problem(code, message, line).into_iter().collect());
        Ok(Some(data.get().map_or_else(one, all)))
    }
}

fn all(entries: Vec<Loose<Entry>>) -> Problems {
    Problems(entries.into_iter().filter_map(Loose::get).map(|Entry(problem)| problem).collect())
}

fn said(text: &str) -> Option<BatchProblem> {
    let message = one_line(text, Masking::Known);
    (!message.is_empty()).then_some(BatchProblem { code: None, message, line: None })
}

fn problem(code: Loose<Word>, message: Loose<String>, line: Loose<Count>) -> Option<BatchProblem> {
    let code = code.get().map(|Word(code)| code);
    let message = message.get().map(|message| one_line(&message, Masking::Known));
    let message = message.filter(|message| !message.is_empty()).or_else(|| code.clone())?;
    Some(BatchProblem { code, message, line: line.get().map(|Count(line)| line) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vec<BatchProblem> {
        let problems: Loose<Problems> = serde_json::from_str(json).unwrap();
        problems.get().unwrap_or_default().0
    }

    fn problem(code: Option<&str>, message: &str, line: Option<u64>) -> BatchProblem {
        BatchProblem { code: code.map(str::to_owned), message: message.to_owned(), line }
    }

    fn told(message: &str) -> Option<u64> {
        let limit = token_limit(&[problem(Some("token_limit_exceeded"), message, None)]);
        limit.expect("the code says it").told
    }

    #[test]
    fn problems_are_read_in_every_form() {
        let json = r#"{"object":"list","data":[
            {"code":"invalid_json_line","line":1,"message":"This line is not parseable as valid JSON.","param":null},
            {"code":null,"line":"7","message":"two\nlines"},
            {"code":429},
            "words",
            {"message":7}, null, [], 5]}"#;
        assert_eq!(
            read(json),
            [
                problem(
                    Some("invalid_json_line"),
                    "This line is not parseable as valid JSON.",
                    Some(1)
                ),
                problem(None, "two lines", None),
                problem(Some("429"), "429", None),
                problem(None, "words", None),
            ]
        );
        let one = [problem(None, "m", None)];
        for json in [
            r#"[{"message":"m","count":3}]"#,
            r#"["m"]"#,
            r#""m""#,
            r#"{"message":"m"}"#,
            r#"{"data":["m"]}"#,
        ] {
            assert_eq!(read(json), one, "{json}");
        }
        for nothing in ["null", "[]", "{}", "7", "true", r#"{"data":null}"#, r#"{"data":{}}"#] {
            assert_eq!(read(nothing), [], "{nothing}");
        }
    }

    #[test]
    fn the_limit_is_found_in_recorded_sentences() {
        assert_eq!(
            told(
                "Enqueued token limit reached for gpt-4o-mini in organization org-1234. Limit: \
                 2,000,000 enqueued tokens. Please try again once some in_progress batches have \
                 been completed."
            ),
            Some(2_000_000)
        );
        assert_eq!(
            told(
                "The number of enqueued tokens has surpassed the configured limit of 30K for the \
                 deployment gpt-4o in resource 7."
            ),
            Some(30_000)
        );
    }

    #[test]
    fn numbers_are_read_however_they_are_written() {
        let table = [
            ("90,000", Some(90_000)),
            ("90.000", Some(90_000)),
            ("90 000 enqueued tokens", Some(90_000)),
            ("90\u{202f}000", Some(90_000)),
            ("1'000'000", Some(1_000_000)),
            ("1_000_000", Some(1_000_000)),
            ("2,000,000.", Some(2_000_000)),
            ("2,000,000, try", Some(2_000_000)),
            ("100000 tokens", Some(100_000)),
            ("100000 200", Some(100_000)),
            ("30k", Some(30_000)),
            ("5M", Some(5_000_000)),
            ("1.5M", Some(1_500_000)),
            ("1.500M", Some(1_500_000)),
            ("1,500K", Some(1_500_000)),
            ("1B", Some(1_000_000_000)),
            ("30 B tokens", Some(30_000_000_000)),
            ("2 million tokens", Some(2_000_000)),
            ("0", Some(0)),
            ("7 kittens", Some(7)),
            ("many", None),
            ("", None),
            ("99999999999999999999999", None),
            ("99999999999999B", None),
        ];
        for (number, wanted) in table {
            for lead in ["Limit: ", "limit of ", "the LIMIT is ", "limit (", "limit="] {
                assert_eq!(told(&format!("{lead}{number}")), wanted, "{lead}{number}");
            }
        }
    }

    #[test]
    fn only_waiting_tokens_are_this_limit() {
        let none = [
            problem(None, "Limit: 7 batches an hour", None),
            problem(Some("rate_limit_exceeded"), "Rate limit reached: 30,000 tokens per min", None),
            problem(Some("invalid_json_line"), "token limit", None),
        ];
        assert_eq!(token_limit(&none), None);
        assert_eq!(token_limit(&[]), None);
        let unsaid = problem(Some("TOKEN_LIMIT_EXCEEDED"), "too much", None);
        assert_eq!(token_limit(std::slice::from_ref(&unsaid)), Some(TokenLimit { told: None }));
        let said = problem(None, "Enqueued token limit reached. Limit: 5K", None);
        assert_eq!(
            token_limit(&[none[0].clone(), unsaid, said]),
            Some(TokenLimit { told: Some(5_000) })
        );
    }
}
