//! One page of a list, as OpenAI turns them: a cursor that is an id, a limit, and whether there is more.

use serde_json::{Value, json};

/// Where a page starts and how long it may be.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// The id after which it starts; at the beginning where there is none.
    pub(super) after: Option<&'a str>,
    /// The most entries.
    pub(super) limit: usize,
}

impl<'a> Turn<'a> {
    /// Reads a query that was checked.
    pub(super) fn read(query: &'a Value, default_limit: usize) -> Self {
        let limit = query.get("limit").and_then(Value::as_u64);
        Self {
            after: query.get("after").and_then(Value::as_str),
            limit: limit.map_or(default_limit, |limit| limit as usize),
        }
    }

    /// Cuts the page out of all entries, in order, each with its id; `None` where the cursor is not
    /// among them.
    pub(super) fn cut<T>(&self, mut all: impl Iterator<Item = (String, T)>) -> Option<Page<T>> {
        if let Some(after) = self.after {
            all.by_ref().find(|(id, _)| id == after)?;
        }
        let entries: Vec<_> = all.by_ref().take(self.limit).collect();
        let more = all.next().is_some();
        Some(Page { entries, more })
    }
}

/// The entries of a page, and whether others follow.
#[derive(Debug)]
pub(super) struct Page<T> {
    entries: Vec<(String, T)>,
    more: bool,
}

impl<T> Page<T> {
    /// Writes the list.
    pub(super) fn write(&self, one: impl Fn(&T) -> Value) -> Value {
        let data: Vec<_> = self.entries.iter().map(|(_, entry)| one(entry)).collect();
        json!({
            "object": "list",
            "data": data,
            "first_id": self.entries.first().map(|(id, _)| id),
            "last_id": self.entries.last().map(|(id, _)| id),
            "has_more": self.more,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(after: Option<&str>, limit: usize) -> Option<Value> {
        let all = ["c", "b", "a"].map(|id| (id.to_owned(), id)).into_iter();
        Some(Turn { after, limit }.cut(all)?.write(|id| json!(id)))
    }

    #[test]
    fn pages_follow_one_another_and_the_last_says_so() {
        let page = cut(None, 2).unwrap();
        assert_eq!((&page["data"], &page["has_more"]), (&json!(["c", "b"]), &json!(true)));
        assert_eq!((&page["first_id"], &page["last_id"]), (&json!("c"), &json!("b")));
        let page = cut(Some("b"), 2).unwrap();
        assert_eq!((&page["data"], &page["has_more"]), (&json!(["a"]), &json!(false)));
        let page = cut(Some("a"), 2).unwrap();
        assert_eq!((&page["data"], &page["first_id"]), (&json!([]), &Value::Null));
        assert_eq!(cut(None, 3).unwrap()["has_more"], false, "all of them are no more than all");
        assert!(cut(Some("x"), 2).is_none());
    }
}
