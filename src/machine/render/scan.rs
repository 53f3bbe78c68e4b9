//! What a template says about columns, beyond what the engine itself reports.
//!
//! The engine names the variables that a template does not define. It does not say which cells
//! are looked up as `row['two words']`, which names may be missing (`is defined`, `default`),
//! which filters and tests are named, and which numbers are only printed. This reads the tokens
//! of a template that the engine has already accepted, so it need not judge syntax. It must never
//! be the reason to refuse a template that the engine would render.

use std::collections::BTreeSet;

/// What the templates of one prompt say, taken together.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Columns looked up through `row` by a constant name.
    pub(super) row_columns: BTreeSet<String>,
    /// Names asked for with `is defined`, `is undefined`, `default`, `d` or `'…' in row`.
    pub(super) optional: BTreeSet<String>,
    /// Names that some `set` defines; the engine counts those set inside of an `if` as undefined.
    pub(super) assigned: BTreeSet<String>,
    /// Names that stand anywhere but alone between `{{` and `}}`.
    pub(super) computed: BTreeSet<String>,
    /// Columns put in order with a literal number (`score > 3`), unless their type is asked for.
    pub(super) ordered: BTreeSet<String>,
    /// Names whose type is asked for (`is number`, `is string`, …).
    pub(super) typed: BTreeSet<String>,
    /// Whether `row` is used other than to look up a constant name.
    pub(super) whole_row: bool,
    /// Filters by name, with the byte at which they stand in their template.
    pub(super) filters: Vec<(String, usize)>,
    /// Tests by name, with the byte at which they stand in their template.
    pub(super) tests: Vec<(String, usize)>,
}

impl Scan {
    /// Adds what `template` says.
    pub(super) fn add(&mut self, template: &str) {
        let mut rest = Lexer::new(template);
        while let Some(block) = rest.next_block() {
            self.add_block(&block);
        }
    }

    fn add_block(&mut self, block: &Block<'_>) {
        let tokens = &block.tokens;
        for at in 0..tokens.len() {
            self.add_filter_or_test(tokens, at);
            if let Some((column, length)) = column_at(tokens, at) {
                let alone = block.prints && at == 0 && length == tokens.len();
                self.add_column(column, (&tokens[..at], &tokens[at + length..]), alone);
            }
        }
        self.add_membership(tokens);
        self.add_assignment(tokens);
    }

    fn add_column(&mut self, column: Column<'_>, (before, after): Around<'_, '_>, alone: bool) {
        let name = match column {
            Column::WholeRow => {
                self.whole_row = true;
                return;
            }
            Column::OfRow(name) => {
                self.row_columns.insert(name.to_owned());
                name
            }
            Column::Named(name) => name,
        };
        if may_be_missing(after) {
            self.optional.insert(name.to_owned());
        }
        if asks_type(after) {
            self.typed.insert(name.to_owned());
        }
        if number_below_or_above(after.iter()) || number_below_or_above(before.iter().rev()) {
            self.ordered.insert(name.to_owned());
        }
        if !alone {
            self.computed.insert(name.to_owned());
        }
    }

    fn add_filter_or_test(&mut self, tokens: &[(usize, Token<'_>)], at: usize) {
        let after_negation = match tokens.get(at + 1) {
            Some((_, Token::Name("not"))) => at + 2,
            _ => at + 1,
        };
        match tokens[at].1 {
            Token::Mark(b'|') => {
                if let Some((byte, Token::Name(name))) = tokens.get(at + 1) {
                    self.filters.push(((*name).to_owned(), *byte));
                }
            }
            Token::Name("is") if !is_attribute(tokens, at) => {
                if let Some((byte, Token::Name(name))) = tokens.get(after_negation) {
                    self.tests.push(((*name).to_owned(), *byte));
                }
            }
            Token::Name(_) | Token::Text(_) | Token::Mark(_) | Token::Number | Token::Other => {}
        }
    }

    fn add_assignment(&mut self, tokens: &[(usize, Token<'_>)]) {
        let Some(((_, Token::Name("set")), targets)) = tokens.split_first() else { return };
        for (_, token) in targets {
            match token {
                Token::Name(name) => {
                    self.assigned.insert((*name).to_owned());
                }
                Token::Mark(b'=' | b'|' | b'.') => return,
                Token::Mark(_) | Token::Text(_) | Token::Number | Token::Other => {}
            }
        }
    }

    fn add_membership(&mut self, tokens: &[(usize, Token<'_>)]) {
        for window in tokens.windows(4) {
            if let [
                (_, Token::Text(name)),
                (_, Token::Name("not")),
                (_, Token::Name("in")),
                (_, Token::Name("row")),
            ] = window
            {
                self.optional.insert((*name).to_owned());
            }
        }
        for window in tokens.windows(3) {
            if let [(_, Token::Text(name)), (_, Token::Name("in")), (_, Token::Name("row"))] =
                window
            {
                self.optional.insert((*name).to_owned());
            }
        }
    }
}

/// The tokens before and after a column.
type Around<'s, 't> = (&'s [(usize, Token<'t>)], &'s [(usize, Token<'t>)]);

#[derive(Clone, Copy)]
enum Column<'t> {
    WholeRow,
    OfRow(&'t str),
    Named(&'t str),
}

/// Returns the column looked up at a token, and how many tokens that takes.
fn column_at<'t>(tokens: &[(usize, Token<'t>)], at: usize) -> Option<(Column<'t>, usize)> {
    let Token::Name(name) = tokens[at].1 else { return None };
    if is_attribute(tokens, at) {
        return None;
    }
    if name != "row" {
        return Some((Column::Named(name), 1));
    }
    let token = |offset: usize| tokens.get(at + offset).map(|(_, token)| *token);
    Some(match (token(1), token(2), token(3)) {
        (Some(Token::Mark(b'.')), Some(Token::Name(column)), _) => (Column::OfRow(column), 3),
        (Some(Token::Mark(b'[')), Some(Token::Text(column)), Some(Token::Mark(b']'))) => {
            (Column::OfRow(column), 4)
        }
        _ => (Column::WholeRow, 1),
    })
}

/// Says whether a name is one of a part or of a filter.
pub(super) fn is_attribute(tokens: &[(usize, Token<'_>)], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| matches!(tokens[before].1, Token::Mark(b'.' | b'|')))
}

fn may_be_missing(after: &[(usize, Token<'_>)]) -> bool {
    let token = |offset: usize| after.get(offset).map(|(_, token)| *token);
    match (token(0), token(1)) {
        (Some(Token::Mark(b'|')), Some(Token::Name("default" | "d")))
        | (Some(Token::Name("is")), Some(Token::Name("defined" | "undefined"))) => true,
        (Some(Token::Name("is")), Some(Token::Name("not"))) => {
            matches!(token(2), Some(Token::Name("defined" | "undefined")))
        }
        _ => false,
    }
}

fn asks_type(after: &[(usize, Token<'_>)]) -> bool {
    let mut names = after.iter().map(|(_, token)| *token).take(3);
    names.next() == Some(Token::Name("is"))
        && names.any(|token| {
            matches!(token, Token::Name("number" | "string" | "integer" | "int" | "float" | "none"))
        })
}

/// Says whether tokens, read away from a column, are a sign of order and then a number.
fn number_below_or_above<'s, 't: 's>(tokens: impl Iterator<Item = &'s (usize, Token<'t>)>) -> bool {
    let mut order = false;
    for (_, token) in tokens {
        match token {
            Token::Mark(b'<' | b'>') => order = true,
            Token::Mark(b'=' | b'-') => {}
            Token::Number => return order,
            Token::Name(_) | Token::Text(_) | Token::Mark(_) | Token::Other => return false,
        }
    }
    false
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'t> {
    Name(&'t str),
    /// A string without escapes.
    Text(&'t str),
    Number,
    Mark(u8),
    Other,
}

/// What stands in one pair of braces.
pub(super) struct Block<'t> {
    /// Whether it is `{{ … }}`.
    prints: bool,
    /// The tokens, each with the byte at which it starts.
    pub(super) tokens: Vec<(usize, Token<'t>)>,
}

/// Reads the blocks of a template.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next `{{ … }}` or `{% … %}`, past comments and raw text.
    pub(super) fn next_block(&mut self) -> Option<Block<'t>> {
        loop {
            let start = self.at + self.text[self.at..].find('{')?;
            self.at = start + 1;
            match self.byte(start + 1) {
                Some(b'#') => self.skip_past("#}"),
                Some(b'{') => return Some(self.block(start + 2, b'}')),
                Some(b'%') => {
                    let block = self.block(start + 2, b'%');
                    if matches!(block.tokens.as_slice(), [(_, Token::Name("raw"))]) {
                        self.skip_raw();
                        continue;
                    }
                    return Some(block);
                }
                _ => {}
            }
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn skip_past(&mut self, end: &str) {
        self.at = match self.text[self.at..].find(end) {
            Some(found) => self.at + found + end.len(),
            None => self.text.len(),
        };
    }

    fn skip_raw(&mut self) {
        while let Some(found) = self.text[self.at..].find("{%") {
            let start = self.at + found + 2;
            let inside = self.text[start..].trim_start_matches(['-', '+']).trim_start();
            self.at = start;
            if inside.starts_with("endraw") {
                return self.skip_past("%}");
            }
        }
        self.at = self.text.len();
    }

    /// Reads the tokens from `start` to the closing mark, which counts only outside of brackets.
    fn block(&mut self, start: usize, close: u8) -> Block<'t> {
        let mut block = Block { prints: close == b'}', tokens: Vec::new() };
        let mut depth = 0_i32;
        self.at = start;
        if matches!(self.byte(start), Some(b'-' | b'+')) {
            self.at += 1;
        }
        while let Some(byte) = self.byte(self.at) {
            if depth == 0 && self.closes(close) {
                return block;
            }
            let at = self.at;
            match byte {
                b'\'' | b'"' => block.tokens.push((at, self.string(byte))),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    block.tokens.push((at, Token::Name(self.word())));
                }
                b'0'..=b'9' => {
                    self.number();
                    block.tokens.push((at, Token::Number));
                }
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                _ => {
                    depth += match byte {
                        b'(' | b'[' | b'{' => 1,
                        b')' | b']' | b'}' => -1,
                        _ => 0,
                    };
                    self.at += 1;
                    block.tokens.push((at, Token::Mark(byte)));
                }
            }
            while !self.text.is_char_boundary(self.at) {
                self.at += 1;
            }
        }
        block
    }

    /// Steps past the closing mark if it stands here.
    fn closes(&mut self, close: u8) -> bool {
        let dash = usize::from(matches!(self.byte(self.at), Some(b'-' | b'+')));
        let closes =
            self.byte(self.at + dash) == Some(close) && self.byte(self.at + dash + 1) == Some(b'}');
        if closes {
            self.at += dash + 2;
        }
        closes
    }

    fn word(&mut self) -> &'t str {
        let start = self.at;
        let length = self.text[start..]
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            .count();
        self.at += length;
        &self.text[start..self.at]
    }

    fn number(&mut self) {
        self.word();
        let fraction = self.byte(self.at) == Some(b'.')
            && self.byte(self.at + 1).is_some_and(|byte| byte.is_ascii_digit());
        if fraction {
            self.at += 1;
            self.word();
        }
    }

    fn string(&mut self, quote: u8) -> Token<'t> {
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        while let Some(byte) = self.byte(self.at) {
            if byte == b'\\' {
                escaped = true;
                self.at += 2;
                continue;
            }
            self.at += 1;
            if byte == quote {
                let inside = self.text.get(start..self.at - 1);
                return match inside {
                    Some(inside) if !escaped => Token::Text(inside),
                    _ => Token::Other,
                };
            }
        }
        self.at = self.text.len();
        Token::Other
    }
}

#[cfg(test)]
mod tests {
    use super::Scan;

    fn scan(template: &str) -> Scan {
        let mut scan = Scan::default();
        scan.add(template);
        scan
    }

    fn words(set: &std::collections::BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn constant_lookups_in_the_row_are_found() {
        let found =
            scan("{{ row['two words'] }} {{- row.x|upper -}} {% if row[\"y\"] %}{% endif %}");
        assert_eq!(words(&found.row_columns), ["two words", "x", "y"]);
        assert!(!found.whole_row);
        assert!(scan("{{ row[name] }}").whole_row);
        assert!(scan("{% for k in row %}{% endfor %}").whole_row);
        assert!(words(&scan("{{ a.row.x }}").row_columns).is_empty());
    }

    #[test]
    fn raw_text_comments_and_strings_say_nothing() {
        let found =
            scan("{% raw %}{{ row.a }}{% endraw %}{# {{ row.b }} #}{{ 'row.c }} ' }}{{ row.d }}");
        assert_eq!(words(&found.row_columns), ["d"]);
        let nested = scan("{{ {'a': {'b': row.e}} }}{{ row.f }}");
        assert_eq!(words(&nested.row_columns), ["e", "f"]);
    }

    #[test]
    fn a_guarded_name_is_optional() {
        let found = scan(
            "{% if a is defined %}{% endif %}{{ b|default('') }}{{ row.c | d }}\
             {{ 1 if row['d d'] is not undefined }}{% if 'e' in row and 'f' not in row %}{% endif %}{{ g }}",
        );
        assert_eq!(words(&found.optional), ["a", "b", "c", "d d", "e", "f"]);
    }

    #[test]
    fn a_name_that_is_only_printed_is_not_computed_with() {
        let found =
            scan("{{ a }}{{- row.b -}}{{ row['c'] }}{{ d|upper }}{% if e > 1 %}{% endif %}");
        for printed in ["a", "b", "c"] {
            assert!(!found.computed.contains(printed), "{printed}");
        }
        for computed in ["d", "e"] {
            assert!(found.computed.contains(computed), "{computed}");
        }
    }

    #[test]
    fn an_order_with_a_number_is_found_on_both_sides() {
        let found = scan(
            "{{ a > 3 }}{% if 0.5 <= row['b'] and row.c >= -1 %}{% endif %}{{ d|int > 3 }}\
             {{ e == 3 }}{{ f > g }}{{ h[0] > 1 }}{{ i is number and i > 2 }}",
        );
        assert_eq!(words(&found.ordered), ["a", "b", "c", "i"]);
        assert_eq!(words(&found.typed), ["i"]);
    }

    #[test]
    fn filters_and_tests_are_named_with_their_place() {
        let found = scan("{{ a|upper|trim }}{% if a is not none %}{% endif %}");
        assert_eq!(found.filters, [("upper".to_owned(), 5), ("trim".to_owned(), 11)]);
        assert_eq!(found.tests, [("none".to_owned(), 33)]);
    }

    #[test]
    fn whatever_the_text_the_scan_ends() {
        for text in ["{{", "{%", "{#", "{{ '", "{{ '\\", "{{ é", "{% raw %}", "{{ }", "{", "{{ \\é"]
        {
            scan(text);
        }
    }
}
