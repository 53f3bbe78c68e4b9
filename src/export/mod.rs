//! Writers: rows with their answers, as files.
