//! Ids of the record's rows, one type a table, so that one cannot stand for another.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

ids! {
    /// A file that rows came from.
    SourceId,
    /// One version of one input record.
    RowId,
    /// One version of one prompt.
    PromptId,
    /// One prompt version applied to one row version.
    RequestId,
    /// One try at a request.
    AttemptId,
    /// One batch job at a provider.
    BatchId,
    /// One execution of `overnight run`.
    RunId,
    /// One compression dictionary.
    DictionaryId,
}
