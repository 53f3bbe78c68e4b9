//! Replies that hold no answer: their class, and what is said of them.

use super::classes;
use super::envelope::Told;
use super::message::{Masking, one_line};
use crate::domain::{FailureClass, Reading, Verdict};
use crate::provider::ReplyHeaders;

/// Reads a reply whose status is not 2xx.
pub(in crate::provider) fn reading(status: u16, headers: &ReplyHeaders, body: &[u8]) -> Reading {
    match status {
        300..=399 => redirect(status, headers),
        400..=599 => {
            let told = Told::read(body);
            let class = classes::of_status(status, &told);
            Reading::failed(class, words(&told, class).unwrap_or_else(|| plain(status, &told)))
        }
        // 1xx, and what no server may send; a batch's output was seen to hold a status 0.
        _ => Reading::failed(
            FailureClass::MalformedReply,
            format!("the reply has the status {status}, which is none of HTTP's for a result"),
        ),
    }
}

/// Reads the error inside a reply whose status says success.
pub(super) fn in_success(body: &[u8]) -> Verdict {
    let told = Told::read(body);
    let class = classes::of_words(&told);
    Verdict::Failed { class, message: said(&told, class) }
}

/// Reads the error that a line of a batch holds instead of a reply.
pub(in crate::provider) fn in_line(told: &Told) -> Reading {
    let class = classes::of_line(told);
    Reading::failed(class, said(told, class))
}

fn said(told: &Told, class: FailureClass) -> String {
    words(told, class)
        .unwrap_or_else(|| "the provider reports an error and does not say which".to_owned())
}

/// Redirects are never followed: they would carry the key and the row to another place.
fn redirect(status: u16, headers: &ReplyHeaders) -> Reading {
    let place = headers.location_host.as_deref().unwrap_or("another address");
    let message = format!(
        "the server redirects to {place} ({status}), which is not followed; check the base URL"
    );
    Reading::failed(FailureClass::EndpointNotFound, message)
}

/// Returns the provider's own words, if there are any.
fn words(told: &Told, class: FailureClass) -> Option<String> {
    let is_about_key = matches!(class, FailureClass::Unauthorized | FailureClass::Forbidden);
    let masking = if is_about_key { Masking::Anything } else { Masking::Known };
    Some(one_line(&told.message, masking)).filter(|line| !line.is_empty())
}

fn plain(status: u16, told: &Told) -> String {
    if told.is_page {
        format!("the server answered {status} with a web page instead of an error")
    } else {
        format!("the server answered {status} and does not say why")
    }
}
