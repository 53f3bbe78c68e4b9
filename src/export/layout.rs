//! Which columns an export has, in which order and under which names.
//!
//! The input's columns come first and keep their names, whatever they are. Ours come after them,
//! and it is ours that give way where two would be called the same.

use std::collections::HashSet;

use super::value::Names;
use crate::machine::plan::Liveness;

/// What an export is to look like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The input's columns.
    pub columns: Vec<String>,
    /// The prompts, in the order of their answers in each [`AnswerRow`](crate::domain::AnswerRow).
    pub prompts: Vec<PromptPart>,
    /// How answers are named.
    pub naming: Naming,
    /// Whether it says how answers came about.
    pub details: Details,
    /// What a line is.
    pub form: Form,
    /// Whether somebody is there to settle what is in flight.
    pub liveness: Liveness,
}

/// A prompt, as far as an export is concerned.
#[derive(Clone, Debug)]
pub struct PromptPart {
    /// Its name, as it was asked for: `NAME`, or `NAME@VERSION` for an old one.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Its model, as `provider/model`.
    pub model: String,
    /// What its answers are.
    pub answer: AnswerKind,
}

/// What a prompt's answers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// A text or a label.
    Text,
    /// One JSON object, with these fields at its top; none where the schema does not name them.
    Object(Vec<String>),
}

/// How answers are named in the wide form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `answer`, `state`: for one prompt.
    Plain,
    /// `NAME.answer`, `NAME.state`.
    ByPrompt,
}

/// Whether an export says how answers came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// It does not.
    Without,
    /// It has a column for each detail.
    With,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A row, with the answers of all prompts beside each other.
    Wide,
    /// A row and a prompt.
    Long,
}

/// The columns of an export.
#[derive(Debug)]
pub struct Layout {
    pub(super) inputs: Names,
    pub(super) outputs: Vec<Output>,
    pub(super) prompts: Vec<LaidOut>,
    pub(super) form: Form,
    pub(super) liveness: Liveness,
    renamed: Vec<(String, String)>,
}

/// A prompt, with its fields ready to be looked up.
#[derive(Debug)]
pub(super) struct LaidOut {
    pub(super) part: PromptPart,
    pub(super) fields: Names,
}

/// A column of ours.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) of: Of,
    pub(super) what: What,
}

/// Whose column it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// That of the prompt with this number.
    Prompt(usize),
    /// That of the prompt which the line is about.
    Line,
}

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Answer,
    Field(usize),
    State,
    Detail(Detail),
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Model,
    Prompt,
    PromptVersion,
    Route,
    BatchId,
    ProviderRequestId,
    FinishReason,
    InputTokens,
    OutputTokens,
    CostUsd,
    Attempts,
    ErrorClass,
    Error,
    AnsweredAt,
    Fingerprint,
}

impl Detail {
    const ALL: [Self; 15] = [
        Self::Model,
        Self::Prompt,
        Self::PromptVersion,
        Self::Route,
        Self::BatchId,
        Self::ProviderRequestId,
        Self::FinishReason,
        Self::InputTokens,
        Self::OutputTokens,
        Self::CostUsd,
        Self::Attempts,
        Self::ErrorClass,
        Self::Error,
        Self::AnsweredAt,
        Self::Fingerprint,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Prompt => "prompt",
            Self::PromptVersion => "prompt_version",
            Self::Route => "route",
            Self::BatchId => "batch_id",
            Self::ProviderRequestId => "provider_request_id",
            Self::FinishReason => "finish_reason",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::CostUsd => "cost_usd",
            Self::Attempts => "attempts",
            Self::ErrorClass => "error_class",
            Self::Error => "error",
            Self::AnsweredAt => "answered_at",
            Self::Fingerprint => "fingerprint",
        }
    }
}

impl Layout {
    /// Lays out an export.
    pub fn new(shape: Shape) -> Self {
        let wanted = match shape.form {
            Form::Wide => wide(&shape),
            Form::Long => long(shape.details),
        };
        let (outputs, renamed) = free_names(&shape.columns, wanted);
        let prompts = shape.prompts.into_iter().map(|part| {
            let fields = match &part.answer {
                AnswerKind::Text => Names::default(),
                AnswerKind::Object(fields) => Names::new(fields.clone()),
            };
            LaidOut { part, fields }
        });
        Self {
            inputs: Names::new(shape.columns),
            outputs,
            prompts: prompts.collect(),
            form: shape.form,
            liveness: shape.liveness,
            renamed,
        }
    }

    /// Returns the names of all columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let ours = self.outputs.iter().map(|output| output.name.as_str());
        self.inputs.list().iter().map(String::as_str).chain(ours)
    }

    /// Returns what a line is.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Returns our columns that had to give way: the name each would have had, and the one it has.
    pub fn renamed(&self) -> &[(String, String)] {
        &self.renamed
    }
}

fn wide(shape: &Shape) -> Vec<Output> {
    let mut outputs = Vec::new();
    for (number, prompt) in shape.prompts.iter().enumerate() {
        let mut push = |name: &str, what| {
            let name = match shape.naming {
                Naming::Plain => name.to_owned(),
                Naming::ByPrompt => format!("{}.{name}", prompt.name),
            };
            outputs.push(Output { name, of: Of::Prompt(number), what });
        };
        match &prompt.answer {
            AnswerKind::Object(fields) if !fields.is_empty() => {
                for (at, field) in fields.iter().enumerate() {
                    push(&format!("answer.{field}"), What::Field(at));
                }
            }
            AnswerKind::Object(_) | AnswerKind::Text => push("answer", What::Answer),
        }
        push("state", What::State);
        for detail in details(shape.details) {
            push(detail.as_str(), What::Detail(*detail));
        }
    }
    outputs
}

fn long(with: Details) -> Vec<Output> {
    let prompt = What::Detail(Detail::Prompt);
    let first = [("prompt", prompt), ("answer", What::Answer), ("state", What::State)];
    let details = details(with).iter().map(|detail| (detail.as_str(), What::Detail(*detail)));
    first
        .into_iter()
        .chain(details.filter(|(_, what)| *what != prompt))
        .map(|(name, what)| Output { name: name.to_owned(), of: Of::Line, what })
        .collect()
}

fn details(with: Details) -> &'static [Detail] {
    match with {
        Details::Without => &[],
        Details::With => &Detail::ALL,
    }
}

/// Gives every output a name of its own, and lists those that did not get the one they wanted.
fn free_names(
    columns: &[String],
    mut outputs: Vec<Output>,
) -> (Vec<Output>, Vec<(String, String)>) {
    let wanted: HashSet<String> = outputs.iter().map(|output| output.name.clone()).collect();
    let mut taken: HashSet<String> = columns.iter().cloned().collect();
    let mut renamed = Vec::new();
    for output in &mut outputs {
        let mut free = output.name.clone();
        let mut number = 1;
        while taken.contains(&free) || (number > 1 && wanted.contains(&free)) {
            number += 1;
            free = format!("{}_{number}", output.name);
        }
        if number > 1 {
            renamed.push((std::mem::replace(&mut output.name, free.clone()), free));
        }
        taken.insert(output.name.clone());
    }
    (outputs, renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, answer: AnswerKind) -> PromptPart {
        PromptPart { name: name.into(), version: 1, model: "openai/m".into(), answer }
    }

    fn object(fields: &[&str]) -> AnswerKind {
        AnswerKind::Object(fields.iter().map(|&field| field.to_owned()).collect())
    }

    fn shape(columns: &[&str], prompts: Vec<PromptPart>) -> Shape {
        Shape {
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            naming: if prompts.len() > 1 { Naming::ByPrompt } else { Naming::Plain },
            prompts,
            details: Details::Without,
            form: Form::Wide,
            liveness: Liveness::Idle,
        }
    }

    fn columns(shape: Shape) -> String {
        Layout::new(shape).columns().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn input_columns_come_first_then_answer_then_state() {
        let one = shape(&["id", "text"], vec![part("main", AnswerKind::Text)]);
        assert_eq!(columns(one), "id text answer state");
        assert_eq!(columns(shape(&["id"], vec![])), "id");
        assert_eq!(columns(shape(&[], vec![part("main", AnswerKind::Text)])), "answer state");
    }

    #[test]
    fn a_schema_has_a_column_for_each_field() {
        let one = shape(&["id"], vec![part("main", object(&["b", "a b", ""]))]);
        assert_eq!(columns(one), "id answer.b answer.a b answer. state");
        let without_fields = shape(&["id"], vec![part("main", object(&[]))]);
        assert_eq!(columns(without_fields), "id answer state");
    }

    #[test]
    fn several_prompts_are_told_apart_by_name() {
        let prompts = vec![part("tone", AnswerKind::Text), part("facts", object(&["who"]))];
        assert_eq!(
            columns(shape(&["id"], prompts)),
            "id tone.answer tone.state facts.answer.who facts.state"
        );
    }

    #[test]
    fn details_come_after_the_state() {
        let mut one = shape(&["id"], vec![part("main", AnswerKind::Text)]);
        one.details = Details::With;
        assert_eq!(
            columns(one),
            "id answer state model prompt prompt_version route batch_id provider_request_id \
             finish_reason input_tokens output_tokens cost_usd attempts error_class error \
             answered_at fingerprint"
        );
    }

    #[test]
    fn the_long_form_names_the_prompt_once() {
        let prompts = vec![part("tone", AnswerKind::Text), part("facts", object(&["who"]))];
        let mut both = shape(&["id"], prompts);
        both.form = Form::Long;
        assert_eq!(columns(both.clone()), "id prompt answer state");
        both.details = Details::With;
        assert!(columns(both).starts_with("id prompt answer state model prompt_version route"));
    }

    #[test]
    fn a_taken_name_gives_way_and_is_told() {
        let inputs = ["answer", "answer_2", "state", "Answer"];
        let layout = Layout::new(shape(&inputs, vec![part("main", AnswerKind::Text)]));
        let names: Vec<_> = layout.columns().collect();
        assert_eq!(names, ["answer", "answer_2", "state", "Answer", "answer_3", "state_2"]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(layout.renamed(), [pair("answer", "answer_3"), pair("state", "state_2")]);
    }

    #[test]
    fn a_renamed_column_takes_no_other_columns_name() {
        let prompts = vec![part("main", object(&["x", "x_2"]))];
        assert_eq!(columns(shape(&["answer.x"], prompts)), "answer.x answer.x_3 answer.x_2 state");
        // Names of prompts and fields can run into each other too.
        let prompts = vec![part("a", object(&["b"])), part("a.answer", AnswerKind::Text)];
        let mut both = shape(&[], prompts);
        both.columns = vec!["a.answer.state".into()];
        assert_eq!(
            columns(both),
            "a.answer.state a.answer.b a.state a.answer.answer a.answer.state_2"
        );
    }
}
