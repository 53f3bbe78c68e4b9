//! Answers: short, drawn from a seed, in the language of the prompt, in the form that is asked for.
//!
//! Nothing of the prompt is repeated; all that is looked at is whether it has Hangul.

use fastrand::Rng;
use serde_json::{Value, json};

use super::completion::{Answer, Ask, Completion, Finish, Format, Said};
use super::fault::Fault;
use super::fit::fit;
use super::likeness::{AnswerLength, AskedInWords};
use super::tokens;
use crate::domain::Usage;

/// The language of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Korean,
}

/// What a label reads when it must be none of those allowed.
const NO_LABEL: &str = "none of the labels";

/// How an answer comes to be what it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner<'a> {
    /// What goes wrong.
    pub(super) fault: Option<Fault>,
    /// How long it is, where that is not left to its text.
    pub(super) length: Option<AnswerLength>,
    /// Its form, where that is asked for in words.
    pub(super) in_words: Option<&'a AskedInWords>,
}

/// Completes `ask`; a fault that spoils the answer itself is applied here.
pub(super) fn complete(
    ask: &Ask<'_>,
    input_tokens: u64,
    manner: Manner<'_>,
    mut rng: Rng,
) -> Completion {
    let language = Language::of(ask);
    let answers: Vec<_> =
        (0..ask.answers).map(|_| answer(ask, language, manner, &mut rng)).collect();
    let output = answers.iter().map(|answer| answer.tokens).sum();
    let reasoning = manner.length.map_or(0, |length| length.reasoning.min(output));
    let usage = Usage { input: input_tokens, cached: 0, output, reasoning };
    Completion { answers, usage }
}

fn answer(ask: &Ask<'_>, language: Language, manner: Manner<'_>, rng: &mut Rng) -> Answer {
    let is = |ordered| manner.fault == Some(ordered);
    if is(Fault::Refusal) {
        let text = language.refusal().to_owned();
        let tokens = tokens::count(&text);
        Answer { said: Said::Refusal(text), finish: Finish::Stop, tokens }
    } else if is(Fault::ContentFilter) {
        Answer { said: Said::Text(String::new()), finish: Finish::Filter, tokens: 0 }
    } else if is(Fault::WrongLabel) {
        limited(ask, wrong_text(ask, language, rng), None)
    } else {
        let mut text = text(ask, language, manner.in_words, rng);
        if is(Fault::LineSeparator) && ask.format == Format::Text {
            // What splits lines for some readers, and is a mere character in JSON.
            text.push_str("\u{2028}\u{2029}\u{85}");
        }
        // Short of the end, and of the limit too if that comes sooner.
        let cut_to = is(Fault::Length).then(|| tokens::count(&text) / 2);
        match manner.length {
            Some(length) if cut_to.is_none() => as_long_as(ask, text, length.output),
            Some(_) | None => limited(ask, text, cut_to),
        }
    }
}

/// Ends a text as one that has so many tokens would, which it is then said to have.
fn as_long_as(ask: &Ask<'_>, mut text: String, tokens: u64) -> Answer {
    match ask.limit.filter(|limit| *limit < tokens) {
        None => Answer { said: Said::Text(text), finish: Finish::Stop, tokens },
        Some(limit) => {
            text.truncate(text.floor_char_boundary(text.len() / 2));
            Answer { said: Said::Text(text), finish: Finish::Length, tokens: limit }
        }
    }
}

/// Ends a text at a stop sequence, at the limit or at `cut_to`, whichever comes first.
fn limited(ask: &Ask<'_>, mut text: String, cut_to: Option<u64>) -> Answer {
    let stop = ask.stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop));
    if let Some(at) = stop.min() {
        text.truncate(at);
    }
    let most = ask.limit.into_iter().chain(cut_to).min();
    if let Some((tokens, text)) = most.and_then(|most| Some((most, tokens::cut(&text, most)?))) {
        return Answer { said: Said::Text(text), finish: Finish::Length, tokens };
    }
    let tokens = tokens::count(&text);
    Answer { said: Said::Text(text), finish: Finish::Stop, tokens }
}

fn text(
    ask: &Ask<'_>,
    language: Language,
    in_words: Option<&AskedInWords>,
    rng: &mut Rng,
) -> String {
    match (ask.format, in_words) {
        (Format::Text, Some(asked)) => asked.answer(&fit(&asked.schema, language, rng)),
        (Format::Text, None) => language.sentence(rng),
        (Format::Object, _) => json!({"answer": language.words(rng)}).to_string(),
        (Format::Schema(schema), _) => fit(schema, language, rng).to_string(),
    }
}

fn wrong_text(ask: &Ask<'_>, language: Language, rng: &mut Rng) -> String {
    let Format::Schema(schema) = ask.format else { return NO_LABEL.to_owned() };
    let mut value = fit(schema, language, rng);
    let properties = schema.get("properties").and_then(Value::as_object);
    let labels = properties
        .into_iter()
        .flatten()
        .filter(|(_, property)| property.get("enum").is_some() || property.get("const").is_some());
    let mut spoilt = false;
    for (name, _) in labels {
        if let Some(label) = value.get_mut(name) {
            *label = json!(NO_LABEL);
            spoilt = true;
        }
    }
    // Where no field has labels, words that are not JSON break any schema.
    if spoilt { value.to_string() } else { NO_LABEL.to_owned() }
}

impl Language {
    fn of(ask: &Ask<'_>) -> Self {
        let is_hangul = |c: char| matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3131}'..='\u{318e}' | '\u{ac00}'..='\u{d7a3}');
        let texts = ask.turns.iter().flat_map(|turn| &turn.texts);
        // A text of ASCII alone, which most are, is dismissed without decoding it.
        let korean = texts.into_iter().any(|text| !text.is_ascii() && text.chars().any(is_hangul));
        if korean { Self::Korean } else { Self::English }
    }

    fn refusal(self) -> &'static str {
        match self {
            Self::English => "I'm sorry, but I can't help with that.",
            Self::Korean => "죄송하지만 그 요청은 도와드릴 수 없습니다.",
        }
    }

    /// Makes two or three words that mean nothing in particular.
    pub(super) fn words(self, rng: &mut Rng) -> String {
        let (first, second) = match self {
            Self::English => (pick(&QUALITIES, rng), pick(&THINGS, rng)),
            Self::Korean => (pick(&KOREAN_QUALITIES, rng), pick(&KOREAN_THINGS, rng)),
        };
        format!("{first} {second}")
    }

    fn sentence(self, rng: &mut Rng) -> String {
        let words = self.words(rng);
        match self {
            Self::English => format!("{} {words} {}.", pick(&OPENINGS, rng), pick(&ENDINGS, rng)),
            Self::Korean => {
                format!("{} {words} {}.", pick(&KOREAN_OPENINGS, rng), pick(&KOREAN_ENDINGS, rng))
            }
        }
    }
}

fn pick(words: &[&'static str; 8], rng: &mut Rng) -> &'static str {
    words[rng.usize(..words.len())]
}

const OPENINGS: [&str; 8] = [
    "In short, it shows a",
    "On the whole this is a",
    "It can be read as a",
    "Most readers would see a",
    "The main point is a",
    "At its core there is a",
    "It comes down to a",
    "What stands out is a",
];
const QUALITIES: [&str; 8] =
    ["clear", "quiet", "mixed", "careful", "simple", "lively", "steady", "modest"];
const THINGS: [&str; 8] =
    ["account", "picture", "pattern", "example", "question", "summary", "change", "balance"];
const ENDINGS: [&str; 8] = [
    "with a few open points",
    "that needs no comment",
    "as one would expect",
    "on closer reading",
    "without surprises",
    "in plain terms",
    "with room for doubt",
    "that stands on its own",
];
const KOREAN_OPENINGS: [&str; 8] = [
    "전반적으로",
    "요약하면",
    "한마디로",
    "자세히 보면",
    "대체로",
    "결론적으로",
    "무엇보다도",
    "전체적으로 볼 때",
];
const KOREAN_QUALITIES: [&str; 8] =
    ["분명한", "조용한", "복합적인", "신중한", "단순한", "활기찬", "안정된", "소박한"];
const KOREAN_THINGS: [&str; 8] = ["내용", "모습", "흐름", "사례", "질문", "요약", "변화", "균형"];
const KOREAN_ENDINGS: [&str; 8] = [
    "중심의 글입니다",
    "쪽에 가깝습니다",
    "중심으로 읽힙니다",
    "관점이 드러납니다",
    "성격이 강합니다",
    "위주로 보입니다",
    "측면이 눈에 띕니다",
    "이상은 아닙니다",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Endpoint;
    use crate::simulate::completion::{Overflow, Turn};

    fn ask<'a>(text: &'a str, format: Format<'a>) -> Ask<'a> {
        Ask {
            endpoint: Endpoint::ChatCompletions,
            model: "m",
            turns: vec![Turn { role: "user", name: None, texts: vec![text], media: 0 }],
            limit: None,
            format,
            stops: Vec::new(),
            answers: 1,
            overflow: Overflow::Refused,
        }
    }

    fn only(ask: &Ask<'_>, fault: Option<Fault>, seed: u64) -> Answer {
        let manner = Manner { fault, ..Manner::default() };
        let mut completion = complete(ask, 10, manner, Rng::with_seed(seed));
        assert_eq!(completion.answers.len(), 1);
        assert_eq!(completion.usage.output, completion.answers[0].tokens);
        completion.answers.remove(0)
    }

    fn said(answer: &Answer) -> &str {
        match &answer.said {
            Said::Text(text) | Said::Refusal(text) => text,
        }
    }

    #[test]
    fn the_same_seed_says_the_same_and_others_differ() {
        let ask = ask("hello", Format::Text);
        let texts: std::collections::HashSet<_> =
            (0..50).map(|seed| said(&only(&ask, None, seed)).to_owned()).collect();
        assert!(texts.len() > 25);
        assert_eq!(only(&ask, None, 7), only(&ask, None, 7));
    }

    #[test]
    fn an_answer_is_as_long_as_its_manner_says_and_cut_at_the_limit() {
        let length = Some(AnswerLength { output: 700, reasoning: 600 });
        let manner = Manner { length, ..Manner::default() };
        let made = |limit| {
            let ask = Ask { limit, ..ask("hello", Format::Text) };
            complete(&ask, 10, manner, Rng::with_seed(1))
        };
        for limit in [None, Some(700), Some(10_000)] {
            let whole = made(limit);
            assert_eq!((whole.usage.output, whole.usage.reasoning), (700, 600));
            assert_eq!(whole.answers[0].finish, Finish::Stop);
        }
        let cut = made(Some(64));
        assert_eq!((cut.usage.output, cut.usage.reasoning), (64, 64));
        assert_eq!(cut.answers[0].finish, Finish::Length);
    }

    #[test]
    fn a_form_that_is_asked_for_in_words_is_kept_to() {
        let schema = json!({"type": "object", "properties": {"answer": {"enum": ["a", "b"]}},
            "required": ["answer"], "additionalProperties": false});
        let asked =
            |bare| AskedInWords { sentence: "a or b".to_owned(), schema: schema.clone(), bare };
        let said_to = |asked: &AskedInWords| {
            let manner = Manner { in_words: Some(asked), ..Manner::default() };
            let made = complete(&ask("hello", Format::Text), 10, manner, Rng::with_seed(1));
            said(&made.answers[0]).to_owned()
        };
        assert!(["a", "b"].contains(&said_to(&asked(Some("answer"))).as_str()));
        let value: Value = serde_json::from_str(&said_to(&asked(None))).unwrap();
        assert!(jsonschema::is_valid(&schema, &value), "{value}");
    }

    #[test]
    fn korean_is_answered_in_korean() {
        let answer = only(&ask("리뷰: 좋아요", Format::Text), None, 1);
        assert!(said(&answer).chars().any(|c| ('가'..='힣').contains(&c)));
        assert!(said(&only(&ask("café ☕ 東京", Format::Text), None, 1)).is_ascii());
    }

    #[test]
    fn an_answer_over_the_limit_is_cut_and_counted_up_to_it() {
        for text in ["hello", "안녕"] {
            for limit in 0..30 {
                let ask = Ask { limit: Some(limit), ..ask(text, Format::Text) };
                let answer = only(&ask, None, 3);
                assert!(answer.tokens <= limit);
                let whole = only(&Ask { limit: None, ..ask }, None, 3);
                assert_eq!(answer.finish == Finish::Length, whole.tokens > limit);
                assert!(said(&whole).starts_with(said(&answer)));
            }
        }
    }

    #[test]
    fn a_stop_sequence_ends_the_answer_before_it() {
        let ask = Ask { stops: vec!["", "zzz", " "], ..ask("hello", Format::Text) };
        let answer = only(&ask, None, 1);
        assert_eq!(answer.finish, Finish::Stop);
        assert!(!said(&answer).is_empty() && !said(&answer).contains(' '));
    }

    #[test]
    fn a_label_is_one_of_the_labels_unless_ordered_otherwise() {
        let schema = json!({"type": "object", "properties": {"answer": {"enum": ["a", "b"]}},
            "required": ["answer"], "additionalProperties": false});
        let ask = ask("hello", Format::Schema(&schema));
        for seed in 0..20 {
            let value: Value = serde_json::from_str(said(&only(&ask, None, seed))).unwrap();
            assert!(jsonschema::is_valid(&schema, &value), "{value}");
            let wrong = only(&ask, Some(Fault::WrongLabel), seed);
            let wrong: Value = serde_json::from_str(said(&wrong)).unwrap();
            assert!(!jsonschema::is_valid(&schema, &wrong), "{wrong}");
        }
    }

    #[test]
    fn spoilt_answers_say_how() {
        let ask = ask("hello", Format::Text);
        assert!(matches!(only(&ask, Some(Fault::Refusal), 1).said, Said::Refusal(_)));
        assert_eq!(only(&ask, Some(Fault::ContentFilter), 1).finish, Finish::Filter);
        let cut = only(&ask, Some(Fault::Length), 1);
        assert_eq!(cut.finish, Finish::Length);
        assert!(cut.tokens > 0 && !said(&cut).is_empty());
        assert_eq!(said(&only(&ask, Some(Fault::WrongLabel), 1)), NO_LABEL);
    }
}
