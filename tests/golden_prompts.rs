//! Rendering `r1` is frozen: these prompts and rows come to exactly these messages, for ever.
//!
//! Each `fixtures/prompts/NAME.prompt` is put together with the row in `NAME.cells.json` and must
//! come to `NAME.messages.json`. A difference is a bug or a new rendering under a new tag; the
//! files of an old tag are never edited.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use overnight::domain::{Fingerprint, Message, Structured};
use overnight::input::prompt_file::{self, BaseUrl, PromptDefaults};
use overnight::machine::render::Template;
use serde_json::{Value, json};

fn prompts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/prompts");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut prompts: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "prompt")).collect();
    prompts.sort();
    prompts
}

fn render(prompt: &Path) -> Vec<Message> {
    let text = fs::read_to_string(prompt).unwrap();
    let defaults = PromptDefaults {
        model: None,
        max_tokens: None,
        base_url: BaseUrl::Own,
        structured: Structured::Schema,
    };
    let no_file = &mut |path: &str| Err(path.to_owned());
    let spec = prompt_file::parse(&text, &defaults, no_file).unwrap().spec;
    let cells = fs::read_to_string(prompt.with_extension("cells.json")).unwrap();
    Template::compile(&spec).unwrap().render(&cells).unwrap()
}

#[test]
fn r1_renders_every_golden_prompt_as_ever() {
    assert_eq!(Fingerprint::TAG, "r1", "a new tag needs golden files of its own");
    assert_eq!(prompts().len(), 3);
    for prompt in prompts() {
        let messages: Vec<Value> = render(&prompt)
            .iter()
            .map(|message| json!({"role": message.role.as_str(), "text": message.text}))
            .collect();
        let golden = fs::read_to_string(prompt.with_extension("messages.json")).unwrap();
        let golden: Value = serde_json::from_str(&golden).unwrap();
        assert_eq!(Value::from(messages), golden, "{}", prompt.display());
    }
}
