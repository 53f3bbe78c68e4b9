//! Where the calls of the Files and Batch APIs go.

use url::Url;

use crate::provider::BaseUrlError;
use crate::provider::endpoint::{below, checked};

/// The most files that a page may hold; also the default, which is why few servers know another.
const FILES_A_PAGE: &str = "10000";
/// The most batches that a page may hold.
const BATCHES_A_PAGE: &str = "100";

/// The URLs of one server's files and batches.
///
/// An id becomes one segment of a path, whatever it holds: it is a stranger's word. It must not be
/// empty, which no decoder here returns.
#[derive(Clone, Debug)]
pub struct BatchUrls {
    base: Url,
}

impl BatchUrls {
    /// Starts from a base URL; the rules are those of [`endpoint_url`](crate::provider::endpoint_url).
    pub fn new(base: &str) -> Result<Self, BaseUrlError> {
        checked(base).map(|base| Self { base })
    }

    /// Returns where a file is uploaded to.
    pub fn files(&self) -> Url {
        below(&self.base, "files")
    }

    /// Returns a page of the list of input files, the one after the cursor if there is one.
    pub fn files_page(&self, after: Option<&str>) -> Url {
        let mut url = self.files();
        url.query_pairs_mut().append_pair("purpose", "batch").append_pair("limit", FILES_A_PAGE);
        continued(url, after)
    }

    /// Returns the URL of a file's facts.
    pub fn file(&self, id: &str) -> Url {
        below(&self.base, &format!("files/{}", segment(id)))
    }

    /// Returns the URL of a file's bytes.
    pub fn content(&self, id: &str) -> Url {
        below(&self.base, &format!("files/{}/content", segment(id)))
    }

    /// Returns where a batch is created.
    pub fn batches(&self) -> Url {
        below(&self.base, "batches")
    }

    /// Returns a page of the list of batches, the one after the cursor if there is one.
    pub fn batches_page(&self, after: Option<&str>) -> Url {
        let mut url = self.batches();
        url.query_pairs_mut().append_pair("limit", BATCHES_A_PAGE);
        continued(url, after)
    }

    /// Returns the URL of a batch.
    pub fn batch(&self, id: &str) -> Url {
        below(&self.base, &format!("batches/{}", segment(id)))
    }

    /// Returns where a batch is asked to end early.
    pub fn cancel(&self, id: &str) -> Url {
        below(&self.base, &format!("batches/{}/cancel", segment(id)))
    }
}

fn continued(mut url: Url, after: Option<&str>) -> Url {
    if let Some(after) = after {
        url.query_pairs_mut().append_pair("after", after);
    }
    url
}

/// Returns the id as one segment. `.` and `..` would climb, and their plain escapes too, so they are
/// escaped twice: no server has an object of that name.
fn segment(id: &str) -> String {
    if matches!(id, "." | "..") {
        return id.replace('.', "%252E");
    }
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn urls(base: &str) -> BatchUrls {
        BatchUrls::new(base).unwrap()
    }

    #[test]
    fn every_call_has_its_url() {
        let urls = urls(" https://api.openai.com/v1/ ");
        let v1 = |rest: &str| format!("https://api.openai.com/v1/{rest}");
        let pairs = [
            (urls.files(), "files"),
            (urls.files_page(None), "files?purpose=batch&limit=10000"),
            (urls.files_page(Some("file-a b")), "files?purpose=batch&limit=10000&after=file-a+b"),
            (urls.file("file-1"), "files/file-1"),
            (urls.content("file-1"), "files/file-1/content"),
            (urls.batches(), "batches"),
            (urls.batches_page(None), "batches?limit=100"),
            (urls.batches_page(Some("batch_1&x=y")), "batches?limit=100&after=batch_1%26x%3Dy"),
            (urls.batch("batch_1"), "batches/batch_1"),
            (urls.cancel("batch_1"), "batches/batch_1/cancel"),
        ];
        for (url, wanted) in pairs {
            assert_eq!(url.as_str(), v1(wanted));
        }
        assert_eq!(self::urls("http://[::1]:8000").files().as_str(), "http://[::1]:8000/files");
    }

    #[test]
    fn a_base_url_is_refused_as_elsewhere() {
        assert_eq!(BatchUrls::new(" ").unwrap_err(), BaseUrlError::Empty);
        assert_eq!(BatchUrls::new("https://u:p@h/v1").unwrap_err(), BaseUrlError::UserInfo);
        assert!(matches!(
            BatchUrls::new("https://h/v1/batches").unwrap_err(),
            BaseUrlError::EndsInEndpoint { endpoint: "batches", .. }
        ));
    }

    #[test]
    fn no_id_leaves_its_segment() {
        let urls = urls("http://h/v1");
        let table = [
            ("../models", "..%2Fmodels"),
            ("..", "%252E%252E"),
            (".", "%252E"),
            ("%2e%2e", "%252e%252e"),
            ("a?b#c", "a%3Fb%23c"),
            ("a\\b\n\tc", "a%5Cb%0A%09c"),
            ("é", "%C3%A9"),
        ];
        for (id, wanted) in table {
            assert_eq!(urls.batch(id).as_str(), format!("http://h/v1/batches/{wanted}"), "{id}");
            assert_eq!(
                urls.content(id).as_str(),
                format!("http://h/v1/files/{wanted}/content"),
                "{id}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_id_is_one_segment(id in "\\PC{1,20}|[./%\\\\?#\\n]{1,6}") {
            let url = urls("http://h/v1").cancel(&id);
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 4);
            prop_assert_eq!((segments[0], segments[1], segments[3]), ("v1", "batches", "cancel"));
            prop_assert!(url.query().is_none() && url.fragment().is_none());
        }
    }
}
