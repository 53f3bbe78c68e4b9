use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{
    AnswerFormat, Endpoint, MessageTemplate, ModelName, PromptSpec, Role, TokenLimitField,
};

fn spec(model: &str, answer: AnswerFormat) -> PromptSpec {
    PromptSpec {
        source: String::new(),
        messages: vec![MessageTemplate { role: Role::User, template: "{{ text }}".to_owned() }],
        model: ModelName::parse(model).unwrap(),
        endpoint: Endpoint::ChatCompletions,
        max_tokens: None,
        max_tokens_limit: None,
        token_limit_field: TokenLimitField::MaxCompletionTokens,
        answer,
        structured: Structured::Schema,
        parameters: serde_json::Map::new(),
    }
}

fn free(model: &str) -> InputTokens {
    InputTokens::of(&spec(model, AnswerFormat::Text), Structured::Words)
}

fn message(role: Role, text: &str) -> Message {
    Message { role, text: text.to_owned() }
}

#[test]
fn models_have_the_vocabulary_that_tiktoken_gives_them() {
    let of = |name: &str| Vocabulary::of(&ModelName::parse(name).unwrap());
    for name in [
        "gpt-4o",
        "gpt-4o-mini-2024-07-18",
        "chatgpt-4o-latest",
        "gpt-4.1-nano",
        "gpt-4.5-preview",
        "gpt-5",
        "gpt-5-mini-2025-08-07",
        "gpt-5.4-nano",
        "gpt-6.1-sol",
        "gpt-6-luna",
        "o1",
        "o3-mini",
        "o4-mini-2025-04-16",
        "openai/gpt-oss-120b",
        "openai/gpt-oss:20b",
        "groq/openai/gpt-oss-20b",
        "fireworks/accounts/fireworks/models/gpt-oss-120b",
        "ft:gpt-4o-mini-2024-07-18:acme::abc123",
        "simulated/small",
    ] {
        assert_eq!(of(name), Some(Vocabulary::O200k), "{name}");
    }
    for name in [
        "gpt-4",
        "gpt-4-0613",
        "gpt-4-turbo",
        "gpt-4-32k",
        "gpt-3.5-turbo",
        "gpt-3.5-turbo-0125",
        "gpt-35-turbo",
        "ft:gpt-3.5-turbo-0125:acme::abc123",
    ] {
        assert_eq!(of(name), Some(Vocabulary::Cl100k), "{name}");
    }
    for name in [
        "anthropic/claude-haiku-4-5",
        "groq/llama-3.3-70b",
        "openai/llama3",
        "gpt-4.7",
        "o11",
        "o2",
    ] {
        assert_eq!(of(name), None, "{name}");
    }
}

#[test]
fn texts_count_as_in_openais_cookbook() {
    // From "How to count tokens with tiktoken", with cl100k_base; o200k_base where its later edition has it.
    let table = [
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("hello world", 2, 2),
        ("", 0, 0),
    ];
    for (text, cl100k, o200k) in table {
        assert_eq!(Vocabulary::Cl100k.count(text), cl100k, "{text}");
        assert_eq!(Vocabulary::O200k.count(text), o200k, "{text}");
    }
}

#[test]
fn messages_count_as_in_openais_cookbook() {
    let lines = [
        (
            Role::System,
            "",
            "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
        ),
        (Role::System, "example_user", "New synergies will help drive top-line growth."),
        (Role::System, "example_assistant", "Things working well together will increase revenue."),
        (
            Role::System,
            "example_user",
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        (
            Role::System,
            "example_assistant",
            "Let's talk later when we're less busy about how to do better.",
        ),
        (
            Role::User,
            "",
            "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        ),
    ];
    let messages: Vec<Message> = lines.iter().map(|(role, _, text)| message(*role, text)).collect();
    for (model, documented) in [("gpt-3.5-turbo", 129), ("gpt-4-0613", 129), ("gpt-4o", 124)] {
        let vocabulary = Vocabulary::of(&ModelName::parse(model).unwrap()).unwrap();
        // Prompts here have no names; the cookbook's example has, at their tokens and one more each.
        let names = lines.iter().filter(|(_, name, _)| !name.is_empty());
        let names: u64 = names.map(|(_, name, _)| vocabulary.count(name) + 1).sum();
        assert_eq!(free(model).count(&messages) + names, documented, "{model}");
    }
    for vocabulary in [Vocabulary::Cl100k, Vocabulary::O200k] {
        for role in [Role::System, Role::User, Role::Assistant] {
            assert_eq!(vocabulary.count(role.as_str()), 1, "a role is taken for one token");
        }
    }
}

#[test]
fn the_form_of_the_answer_is_billed_and_counted() {
    let choices = AnswerFormat::Choices(vec!["positive".to_owned(), "negative".to_owned()]);
    let messages = [message(Role::User, "hello world")];
    let plain = free("gpt-4o").count(&messages);
    assert_eq!(plain, 9);
    let by_schema = InputTokens::of(&spec("gpt-4o", choices.clone()), Structured::Schema);
    let schema = r#"{"type":"object","properties":{"answer":{"type":"string","enum":["positive","negative"]}},"required":["answer"],"additionalProperties":false}"#;
    assert_eq!(by_schema.count(&messages) - plain, Vocabulary::O200k.count(schema));
    assert!(by_schema.has_form());
    let in_words = InputTokens::of(&spec("gpt-4o", choices), Structured::Words);
    let sentence = "Answer with exactly one of these and nothing else: positive, negative";
    assert_eq!(in_words.count(&messages) - plain, Vocabulary::O200k.count(sentence) + 1);
    let written = [message(Role::User, &format!("hello world\n\n{sentence}"))];
    assert_eq!(in_words.count(&messages), free("gpt-4o").count(&written));
    let mut tooled = spec("gpt-4o", AnswerFormat::Text);
    tooled.parameters.insert("tools".to_owned(), json!([{"type": "function", "name": "look"}]));
    tooled.parameters.insert("temperature".to_owned(), json!(0.25));
    tooled.parameters.insert("text".to_owned(), json!({"verbosity": "low"}));
    let tools = r#"[{"type":"function","name":"look"}]"#;
    let counter = InputTokens::of(&tooled, Structured::Words);
    assert_eq!(counter.count(&messages) - plain, Vocabulary::O200k.count(tools));
}

fn seen(pairs: impl IntoIterator<Item = (u64, u64)>) -> Vec<Counted> {
    pairs.into_iter().map(|(counted, billed)| Counted { counted, billed }).collect()
}

#[test]
fn an_exact_vocabulary_learns_what_is_added_to_each_request() {
    let answers = seen((0..20).map(|n| (100 + 7 * n, 100 + 7 * n + 43)));
    let learned = Calibration::learn(&answers, true).unwrap();
    assert_eq!((learned.answers(), learned.of(500), learned.of_all(5_000, 10)), (20, 543, 5_430));
    // What is taken away is learned like what is added, and one answer says it already.
    let learned = Calibration::learn(&seen([(50, 31)]), true).unwrap();
    assert_eq!(learned.of(100), 81);
    assert_eq!(Calibration::learn(&[], true), None);
    assert_eq!(Calibration::learn(&seen([(0, 7), (9, 0)]), true), None);
}

#[test]
fn a_foreign_vocabulary_learns_a_ratio_and_an_offset() {
    let answers = seen((0..200).map(|n| (50 + n, (50 + n) * 5 / 4 + 70)));
    let learned = Calibration::learn(&answers, false).unwrap();
    assert!((learned.of(1_000) as i64 - 1_320).abs() <= 6, "{learned:?}");
    // Of one length all: no line, but a ratio.
    let learned = Calibration::learn(&seen(vec![(100, 150); 30]), false).unwrap();
    assert_eq!(learned.of(200), 300);
    assert_eq!(Calibration::learn(&seen([(10, 10), (20, 20)]), false), None);
    // Ten times as many tokens are no other vocabulary, but a system message that the server adds.
    let learned = Calibration::learn(&seen(vec![(10, 110); 30]), false).unwrap();
    assert_eq!((learned.of(10), learned.of(50)), (110, 150));
}

#[test]
fn a_few_strange_bills_bend_nothing() {
    let mut answers = seen((0..40).map(|n| (100 + 5 * n, 100 + 5 * n + 20)));
    for strange in answers.iter_mut().step_by(13) {
        strange.billed *= 30;
    }
    let exact = Calibration::learn(&answers, true).unwrap();
    assert_eq!(exact.of(300), 320);
    let foreign = Calibration::learn(&answers, false).unwrap();
    assert!((foreign.of(300) as i64 - 320).abs() <= 3, "{foreign:?}");
    assert_eq!(foreign.answers(), 40);
}

#[test]
fn an_output_is_guessed_by_its_form() {
    let labels = AnswerFormat::Choices(vec!["ok".to_owned(), "not at all acceptable".to_owned()]);
    let of = |spec: &PromptSpec| guessed_output(spec, Structured::Schema);
    let longest = Vocabulary::O200k.count(r#"{"answer":"not at all acceptable"}"#);
    assert_eq!(of(&spec("gpt-4o", labels.clone())), longest);
    let in_words = guessed_output(&spec("gpt-4o", labels.clone()), Structured::Words);
    assert_eq!(in_words, Vocabulary::O200k.count("not at all acceptable"));
    assert_eq!(of(&spec("gpt-4o", AnswerFormat::Text)), 120);
    let short = PromptSpec { max_tokens: Some(30), ..spec("gpt-4o", AnswerFormat::Text) };
    assert_eq!(of(&short), 15);
    assert_eq!(of(&PromptSpec { max_tokens: Some(3), ..spec("gpt-4o", labels.clone()) }), 3);
    let mut thinking = spec("gpt-5-mini", labels);
    assert_eq!(of(&thinking), longest + 500);
    thinking.parameters.insert("reasoning_effort".to_owned(), json!("minimal"));
    assert_eq!(of(&thinking), longest);
    let schema =
        |fields: Value| AnswerFormat::Schema(json!({"type": "object", "properties": fields}));
    let one = of(&spec("gpt-4o", schema(json!({"stars": {"type": "integer"}}))));
    let four = of(&spec(
        "gpt-4o",
        schema(json!({"stars": {"type": "integer"}, "why": {"type": "string"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}}, "who": {"anyOf": [{"type": "null"}, {"type": "string"}]}})),
    ));
    assert!(one >= 5 && four > one + 30, "{one} {four}");
}

/// Texts with all that splits words, in several scripts.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-zA-Z]{1,12}",
        "[가-힣]{1,6}",
        "[ぁ-ん一-龥]{1,5}",
        "[0-9]{1,9}",
        "[ \t\r\n]{1,5}",
        "['’.,;:!?{}()/-]{1,4}",
        "\\PC{1,4}",
        Just("it's they'll I'VE".to_owned()),
        Just("\u{200d}👨‍👩‍👧‍👦".to_owned()),
        Just("<|endoftext|>".to_owned()),
    ];
    prop::collection::vec((word, prop_oneof![Just(" "), Just(""), Just("\n")]), 0..30)
        .prop_map(|words| words.into_iter().map(|(word, end)| word + end).collect())
}

proptest! {
    #[test]
    fn the_most_is_never_below_the_count(
        texts in prop::collection::vec(text(), 1..4),
        model in prop_oneof![Just("gpt-4o"), Just("gpt-4"), Just("anthropic/claude"), Just("openai/my-llama")],
        labels in prop::collection::vec(text(), 1..4),
        form in prop_oneof![Just(Structured::Schema), Just(Structured::Words)],
        answers in prop::collection::vec((1u64..3_000, 1u64..3_000), 0..40),
    ) {
        let messages: Vec<Message> = texts.iter().map(|text| message(Role::User, text)).collect();
        let spec = spec(model, AnswerFormat::Choices(labels));
        let counter = InputTokens::of(&spec, form);
        let counted = counter.count(&messages);
        let calibration = Calibration::learn(&seen(answers), counter.is_exact());
        let most = counter.most_input_tokens(&messages, calibration.as_ref());
        prop_assert!(most > counted, "{most} of {counted}");
        // Without answers on file an unknown model's is what single bytes would come to.
        let bytes: usize = texts.iter().map(String::len).sum();
        let unlearned = counter.most_input_tokens(&messages, None);
        prop_assert!(counter.is_exact() || unlearned > bytes as u64);
    }

    #[test]
    fn the_most_covers_every_bill_that_was_seen(
        bills in prop::collection::vec((10u64..2_000, 1u64..6_000), 20..60),
        pick in any::<prop::sample::Index>(),
    ) {
        let (counted, billed) = bills[pick.index(bills.len())];
        let learned = Calibration::learn(&seen(bills), false).unwrap();
        prop_assert!(learned.most(counted) >= billed);
    }

    #[test]
    fn counting_one_after_another_is_counting_each(
        model in prop_oneof![Just("gpt-4o"), Just("gpt-4")],
        head in text(),
        tails in prop::collection::vec(text(), 1..12),
        ends in prop::collection::vec(0usize..400, 1..12),
    ) {
        let counter = free(model);
        let mut memo = Memo::new(&counter);
        for (tail, end) in tails.iter().zip(ends.iter().cycle()) {
            // A beginning of any length in common with the one before.
            let cut = (0..=*end.min(&head.len())).rev().find(|at| head.is_char_boundary(*at)).unwrap();
            let messages = [message(Role::System, &head), message(Role::User, &format!("{}{tail}", &head[..cut]))];
            prop_assert_eq!(memo.count(&messages), counter.count(&messages));
        }
    }
}
