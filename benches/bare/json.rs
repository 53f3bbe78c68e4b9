//! What is read of replies: typed, and borrowed where it can be.

use std::borrow::Cow;

use serde::Deserialize;

/// A chat completion.
#[derive(Deserialize)]
pub(crate) struct Completion<'a> {
    #[serde(borrow)]
    pub(crate) model: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) choices: Vec<Choice<'a>>,
    pub(crate) usage: Usage,
}

#[derive(Deserialize)]
pub(crate) struct Choice<'a> {
    #[serde(borrow)]
    pub(crate) finish_reason: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) message: Message<'a>,
}

#[derive(Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub(crate) content: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: i64,
    pub(crate) completion_tokens: i64,
    pub(crate) prompt_tokens_details: Cached,
    pub(crate) completion_tokens_details: Reasoning,
}

#[derive(Deserialize)]
pub(crate) struct Cached {
    pub(crate) cached_tokens: i64,
}

#[derive(Deserialize)]
pub(crate) struct Reasoning {
    pub(crate) reasoning_tokens: i64,
}

/// A line of a batch's output file.
#[derive(Deserialize)]
pub(crate) struct ResultLine<'a> {
    #[serde(borrow)]
    pub(crate) custom_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) response: Response<'a>,
}

#[derive(Deserialize)]
pub(crate) struct Response<'a> {
    pub(crate) status_code: u16,
    #[serde(borrow)]
    pub(crate) request_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) body: Completion<'a>,
}

/// What has an id: a file, a batch.
#[derive(Deserialize)]
pub(crate) struct Object {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) output_file_id: Option<String>,
}

/// The cells of a row, as the program keeps them; any other column than those of our table is none of ours.
#[derive(Deserialize)]
pub(crate) struct Cells<'a> {
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) review: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) product: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) rating: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) date: Cow<'a, str>,
}
