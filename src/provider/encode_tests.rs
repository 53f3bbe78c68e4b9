use proptest::prelude::*;

use super::*;
use crate::domain::{AnswerFormat, ModelName, Structured};

fn spec(endpoint: Endpoint, parameters: Value) -> PromptSpec {
    PromptSpec {
        source: String::new(),
        messages: Vec::new(),
        model: ModelName::parse("openai/gpt-5-mini").unwrap(),
        endpoint,
        max_tokens: None,
        max_tokens_limit: None,
        token_limit_field: TokenLimitField::MaxCompletionTokens,
        answer: AnswerFormat::Text,
        structured: Structured::Schema,
        parameters: parameters.as_object().unwrap().clone(),
    }
}

fn say(role: Role, text: &str) -> Message {
    Message { role, text: text.to_owned() }
}

fn text(encoder: &Encoder, messages: &[Message], max_tokens: Option<u32>) -> String {
    String::from_utf8(encoder.body(messages, max_tokens)).unwrap()
}

fn label_schema() -> WireAnswer {
    let schema = json!({
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["good", "bad"]}},
        "required": ["answer"],
        "additionalProperties": false,
    });
    WireAnswer::Schema { schema, strict: true }
}

#[test]
fn r1_of_chat_completions_never_changes() {
    let spec = spec(
        Endpoint::ChatCompletions,
        json!({"temperature": 0.2, "seed": 7, "stop": ["\n"], "top_p": 1e-7}),
    );
    let messages = [
        say(Role::System, "Be \"brief\"."),
        say(Role::User, "좋아요\u{2028}\t\u{7f}\u{0}😀/"),
        say(Role::Assistant, "good"),
    ];
    let free = Encoder::new(&spec, WireAnswer::Free);
    assert_eq!(
        text(&free, &messages, Some(64)),
        r#"{"model":"gpt-5-mini","messages":[{"role":"system","content":"Be \"brief\"."},{"role":"user","content":"좋아요\u2028\t"#
            .to_owned()
            + "\u{7f}"
            + r#"\u0000😀/"},{"role":"assistant","content":"good"}],"max_completion_tokens":64,"temperature":0.2,"seed":7,"stop":["\n"],"top_p":1e-7}"#
    );
    let labels = Encoder::new(&spec, label_schema());
    assert_eq!(
        text(&labels, &messages[2..], None),
        r#"{"model":"gpt-5-mini","messages":[{"role":"assistant","content":"good"}],"response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":{"type":"object","properties":{"answer":{"type":"string","enum":["good","bad"]}},"required":["answer"],"additionalProperties":false}}},"temperature":0.2,"seed":7,"stop":["\n"],"top_p":1e-7}"#
    );
}

#[test]
fn r1_of_responses_never_changes() {
    let spec = spec(
        Endpoint::Responses,
        json!({"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}),
    );
    let messages = [say(Role::System, "S"), say(Role::User, "U")];
    let labels = Encoder::new(&spec, label_schema());
    assert_eq!(
        text(&labels, &messages, Some(16)),
        r#"{"model":"gpt-5-mini","input":[{"role":"system","content":"S"},{"role":"user","content":"U"}],"max_output_tokens":16,"text":{"format":{"type":"json_schema","name":"answer","strict":true,"schema":{"type":"object","properties":{"answer":{"type":"string","enum":["good","bad"]}},"required":["answer"],"additionalProperties":false}},"verbosity":"low"},"store":false,"reasoning":{"effort":"low"}}"#
    );
    let free = Encoder::new(&spec, WireAnswer::Free);
    assert_eq!(
        text(&free, &messages[1..], None),
        r#"{"model":"gpt-5-mini","input":[{"role":"user","content":"U"}],"store":false,"reasoning":{"effort":"low"},"text":{"verbosity":"low"}}"#
    );
}

#[test]
fn a_prompt_may_keep_its_responses_at_the_provider() {
    let spec = spec(Endpoint::Responses, json!({"store": true}));
    let body = text(&Encoder::new(&spec, WireAnswer::Free), &[say(Role::User, "U")], None);
    assert!(body.ends_with(r#","store":true}"#), "{body}");
    assert_eq!(body.matches("store").count(), 1);
}

#[test]
fn words_are_a_paragraph_of_the_last_user_message() {
    let spec = spec(Endpoint::ChatCompletions, json!({}));
    let encoder = Encoder::new(&spec, WireAnswer::Words("One of: a, b.".to_owned()));
    let messages = [
        say(Role::User, "1"),
        say(Role::Assistant, "a"),
        say(Role::User, "2"),
        say(Role::Assistant, ""),
    ];
    assert_eq!(
        text(&encoder, &messages, None),
        r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"1"},{"role":"assistant","content":"a"},{"role":"user","content":"2\n\nOne of: a, b."},{"role":"assistant","content":""}]}"#
    );
    assert_eq!(
        text(&encoder, &messages[1..2], None),
        r#"{"model":"gpt-5-mini","messages":[{"role":"assistant","content":"a"},{"role":"user","content":"One of: a, b."}]}"#
    );
}

#[test]
fn the_limit_goes_under_the_name_that_the_endpoint_knows() {
    use Endpoint::{ChatCompletions, Responses};
    use TokenLimitField::{MaxCompletionTokens, MaxOutputTokens, MaxTokens};
    let field = |endpoint, token_limit_field, parameters, max_tokens| {
        let spec = PromptSpec { token_limit_field, ..spec(endpoint, parameters) };
        text(&Encoder::new(&spec, WireAnswer::Free), &[], max_tokens)
    };
    assert!(
        field(ChatCompletions, MaxTokens, json!({}), Some(5)).ends_with(r#"],"max_tokens":5}"#)
    );
    assert!(field(Responses, MaxTokens, json!({}), Some(5)).contains(r#""max_output_tokens":5,"#));
    assert!(
        field(ChatCompletions, MaxOutputTokens, json!({}), Some(5))
            .contains(r#""max_completion_tokens":5"#)
    );
    let given = json!({"max_completion_tokens": 9});
    assert!(
        field(ChatCompletions, MaxCompletionTokens, given.clone(), None)
            .ends_with(r#"],"max_completion_tokens":9}"#)
    );
    assert!(
        field(ChatCompletions, MaxCompletionTokens, given, Some(5))
            .ends_with(r#"],"max_completion_tokens":5}"#)
    );
}

#[test]
fn no_key_stands_twice_whatever_the_parameters_are() {
    let parameters = json!({
        "model": "x", "messages": [], "input": "y", "response_format": {}, "text": "z",
        "store": null, "max_completion_tokens": 1, "max_output_tokens": 2,
    });
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses] {
        let spec = spec(endpoint, parameters.clone());
        let body = text(&Encoder::new(&spec, label_schema()), &[say(Role::User, "U")], Some(3));
        for name in parameters.as_object().unwrap().keys() {
            assert!(body.matches(&format!("\"{name}\":")).count() <= 1, "{name}: {body}");
        }
        assert!(body.starts_with(r#"{"model":"gpt-5-mini","#));
        assert!(body.contains(r#""json_schema""#));
    }
}

#[test]
fn parameters_that_would_break_a_reply_are_refused_by_name() {
    let refused = |parameters| {
        check_parameters(&spec(Endpoint::ChatCompletions, parameters)).map_err(|error| error.name)
    };
    for name in ["model", "messages", "input", "stream", "background", "max_tokens", "n"] {
        assert_eq!(refused(json!({"temperature": 0, name: 2})), Err(name.to_owned()));
    }
    assert_eq!(refused(json!({"n": 1, "temperature": 0, "response_format": {}})), Ok(()));
    let labels = PromptSpec {
        answer: AnswerFormat::Choices(vec!["a".to_owned()]),
        ..spec(Endpoint::ChatCompletions, json!({"response_format": {}}))
    };
    assert_eq!(
        check_parameters(&labels).unwrap_err().to_string(),
        "the parameter \"response_format\" cannot be set: it is made from the prompt's `choices` \
         or `schema`"
    );
}

fn any_message() -> impl Strategy<Value = Message> {
    let role = prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant)];
    (role, any::<String>()).prop_map(|(role, text)| Message { role, text })
}

proptest! {
    #[test]
    fn a_body_parses_to_what_was_put_in(
        messages in proptest::collection::vec(any_message(), 0..5),
        max_tokens in any::<Option<u32>>(),
        responses in any::<bool>(),
        odd in "[\u{2028}\u{2029}\u{85}\"\\\\a]{0,8}",
    ) {
        let endpoint = if responses { Endpoint::Responses } else { Endpoint::ChatCompletions };
        let spec = spec(endpoint, json!({"user": odd}));
        let body = Encoder::new(&spec, WireAnswer::Free).body(&messages, max_tokens);
        let line_ends = ['\u{85}', '\u{2028}', '\u{2029}', '\n'];
        let is_one_line = !std::str::from_utf8(&body).unwrap().contains(line_ends);
        prop_assert!(is_one_line);
        let value: Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(&value["model"], "gpt-5-mini");
        prop_assert_eq!(&value["user"], &odd);
        let wanted: Vec<_> = messages
            .iter()
            .map(|message| json!({"role": message.role.as_str(), "content": message.text}))
            .collect();
        let (list, limit) = if responses {
            ("input", "max_output_tokens")
        } else {
            ("messages", "max_completion_tokens")
        };
        prop_assert_eq!(&value[list], &json!(wanted));
        prop_assert_eq!(value.get(limit).cloned(), max_tokens.map(|n| json!(n)));
    }
}
