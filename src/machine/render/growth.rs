//! How large a template can make a value out of small ones.
//!
//! The engine counts the bytes and items that a template makes, and a list that holds another one twice counts
//! two items. So twenty lines such as `{% set a = [a, a] %}` make a value of a million parts for nothing, and forty
//! make one that cannot be printed, compared or counted before the end of time. The engine offers no place to
//! step in; so this reads the tokens and says how many parts the largest value can have, a cell counting as one.
//! What no list, tuple or object of the template's own goes into counts as one part, so nearly every template
//! has a growth of one. Too high a number is harmless up to the limit; one too low is not.

use std::collections::{HashMap, HashSet};

use super::scan::{Lexer, Token, is_attribute};

/// How often `*` repeats a list where the number is not written beside it.
const UNKNOWN_REPEATS: u64 = 10_000_000;

/// What is not put together in brackets is mostly numbers; from here on it counts all the same, for two cells that
/// are lists can be added and multiplied like numbers.
const UNMADE_PARTS: u64 = 1_000;

/// Functions and filters that put together what they are given.
const COLLECTORS: [&str; 3] = ["chain", "dict", "zip"];

/// Filters that put what they are given beside a number into lists, that often.
const FILLERS: [&str; 2] = ["batch", "slice"];

/// Words that are no names of values.
const KEYWORDS: [&str; 23] = [
    "set",
    "endset",
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "endfor",
    "in",
    "recursive",
    "with",
    "endwith",
    "filter",
    "endfilter",
    "and",
    "or",
    "not",
    "is",
    "true",
    "false",
    "none",
    "do",
    "loop",
];

/// What the values of a prompt's templates can grow to.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// What stands under a name that a template gives a value.
    given: HashMap<String, Size>,
    /// Which of them are more than one cell and not the items of a loop.
    grown: HashSet<String>,
    /// The parts of the largest value.
    most: u64,
    /// Whether something is multiplied that the template has not put together: a number, or a cell that is a list.
    repeats: bool,
}

/// A value, or a run of them that an operator joins.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    parts: u64,
    /// Whether the template itself puts something together in it.
    is_made: bool,
    /// Whether it is multiplied, and nobody knows by what.
    is_repeated: bool,
}

impl Size {
    fn and(self, other: Self) -> Self {
        Self {
            parts: self.parts.saturating_add(other.parts),
            is_made: self.is_made || other.is_made,
            is_repeated: self.is_repeated || other.is_repeated,
        }
    }

    fn times(self, times: u64) -> Self {
        Self { parts: self.parts.saturating_mul(times), ..self }
    }

    /// Repeats what is made; what is not is mostly a number.
    fn repeated(self, times: u64) -> Self {
        if self.is_made { self.times(times) } else { Self { is_repeated: true, ..self } }
    }
}

type Tokens<'s, 't> = &'s [(usize, Token<'t>)];

impl Growth {
    /// Returns how many parts the largest value can have, one at least.
    pub(super) fn most(&self) -> u64 {
        match self.repeats && self.most >= UNMADE_PARTS {
            true => self.most.saturating_mul(UNKNOWN_REPEATS),
            false => self.most.max(1),
        }
    }

    /// Adds what `template` can make.
    pub(super) fn add(&mut self, template: &str) {
        // The engine takes letters of all languages in a name, the lexer those of one.
        let plain: String = template
            .chars()
            .flat_map(|c| std::iter::repeat_n(if c.is_ascii() { c } else { '_' }, c.len_utf8()))
            .collect();
        let mut lexer = Lexer::new(&plain);
        while let Some(block) = lexer.next_block() {
            self.add_block(&plain, &block.tokens);
        }
    }

    fn add_block(&mut self, template: &str, tokens: Tokens<'_, '_>) {
        if loops(tokens).any(|inside| self.may_grow(inside)) {
            self.most = u64::MAX;
        }
        let mut size = self.size(template, values(tokens));
        size.is_made |= is_bare_tuple(tokens);
        self.repeats |= size.is_repeated;
        if size.is_made || size.parts >= UNMADE_PARTS {
            self.most = self.most.max(size.parts);
        }
        // Whatever is named in such a statement may be its target.
        let Some((_, Token::Name(word @ ("set" | "for" | "with")))) = tokens.first() else {
            return;
        };
        for (at, (_, token)) in tokens.iter().enumerate().skip(1) {
            if let Token::Name(name) = token
                && is_target(tokens, at)
            {
                let given = self.given.entry((*name).to_owned()).or_default();
                given.parts = given.parts.max(size.parts);
                given.is_made |= size.is_made;
                if *word != "for" && size.parts > 1 {
                    self.grown.insert((*name).to_owned());
                }
            }
        }
    }

    /// Says whether a loop that is called again on this may be called on more each time: on two values put together,
    /// or on one that is together already. Nobody knows how often it is called.
    fn may_grow(&self, inside: Tokens<'_, '_>) -> bool {
        let has = |wanted: &[u8]| {
            inside
                .iter()
                .any(|(_, token)| matches!(token, Token::Mark(mark) if wanted.contains(mark)))
        };
        let whole = inside.iter().enumerate().filter_map(|(at, (_, token))| {
            let is_part = matches!(inside.get(at + 1), Some((_, Token::Mark(b'.' | b'['))));
            match token {
                Token::Name(name)
                    if !is_part && !is_attribute(inside, at) && !KEYWORDS.contains(name) =>
                {
                    Some(*name)
                }
                _ => None,
            }
        });
        let whole: Vec<&str> = whole.collect();
        let is_repeated = has(b"*") && !whole.is_empty();
        is_repeated
            || whole.iter().any(|name| self.grown.contains(*name))
            || (has(b"[({+,") && whole.len() >= 2)
    }

    /// Returns the size of all that stands in `tokens`, taken together.
    fn size(&self, template: &str, tokens: Tokens<'_, '_>) -> Size {
        let mut sum = Size::default();
        let mut last = Size::default();
        let mut at = 0;
        while at < tokens.len() {
            let is_product = tokens[at].1 == Token::Mark(b'*');
            let from = at + usize::from(is_product);
            let after_value = !is_product && at > 0 && ends_value(&tokens[at - 1].1);
            let (operand, length) = match is_attribute(tokens, from) {
                true => (Size::default(), 1),
                false => self.operand(template, &tokens[from..], !after_value),
            };
            last = match (is_product, after_value) {
                (true, _) => last.and(operand).repeated(repeats(template, tokens, at)),
                // What belongs to the value before it (`x[…]`, `f(…)`) is repeated with it.
                (false, true) => last.and(operand),
                (false, false) => operand,
            };
            sum = sum.and(if is_product { last } else { operand });
            let collector =
                (operand.parts > 0 && after_value).then(|| called(tokens, at)).flatten();
            if let Some(filter) = collector {
                sum.is_made = true;
                let fills = FILLERS.contains(&filter).then(|| repeats(template, tokens, at));
                sum = sum.and(fills.map_or(Size::default(), |times| operand.times(times)));
            }
            at = from + length.max(1);
        }
        sum
    }

    /// Returns the size of the first value in `tokens`, and how many tokens it takes.
    fn operand(&self, template: &str, tokens: Tokens<'_, '_>, is_start: bool) -> (Size, usize) {
        let one = Size { parts: 1, ..Size::default() };
        match tokens.first() {
            Some((_, Token::Name(_))) if names_argument(tokens) => (Size::default(), 2),
            Some((_, Token::Name(name))) if KEYWORDS.contains(name) => (Size::default(), 1),
            Some((_, Token::Name(name))) => {
                let given = self.given.get(*name).filter(|given| given.parts > 0);
                (given.copied().unwrap_or(one), 1)
            }
            Some((_, Token::Mark(open @ (b'(' | b'[' | b'{')))) => {
                let inside = group(tokens);
                let mut size = self.size(template, inside);
                let is_tuple = inside.iter().any(|(_, token)| *token == Token::Mark(b','));
                if is_start && (*open != b'(' || is_tuple) {
                    size = size.and(Size { is_made: true, ..one });
                }
                (size, inside.len() + 2)
            }
            Some((_, Token::Text(_) | Token::Number | Token::Other)) => (one, 1),
            Some((_, Token::Mark(_))) | None => (Size::default(), 1),
        }
    }
}

/// Returns what is computed in a block: what stands behind the first `=` of a `set`, or behind the `in` of a `for`.
fn values<'s, 't>(tokens: Tokens<'s, 't>) -> Tokens<'s, 't> {
    let until = match tokens.first() {
        Some((_, Token::Name("set"))) => Token::Mark(b'='),
        Some((_, Token::Name("for"))) => Token::Name("in"),
        _ => return tokens,
    };
    let at = tokens.iter().position(|(_, token)| *token == until);
    at.map_or(tokens, |at| &tokens[at + 1..])
}

/// Says whether commas join what is computed in a `set`: then it is a tuple, also without brackets.
fn is_bare_tuple(tokens: Tokens<'_, '_>) -> bool {
    matches!(tokens.first(), Some((_, Token::Name("set"))))
        && values(tokens).iter().any(|(_, token)| *token == Token::Mark(b','))
}

/// Says whether a name is one of `name=value`, and no value itself.
fn names_argument(tokens: Tokens<'_, '_>) -> bool {
    let mark = |at: usize| tokens.get(at).map(|(_, token)| *token);
    mark(1) == Some(Token::Mark(b'=')) && mark(2) != Some(Token::Mark(b'='))
}

/// Returns the function or filter whose brackets start at `at`, if it puts its arguments together.
fn called<'t>(tokens: Tokens<'_, 't>, at: usize) -> Option<&'t str> {
    match (tokens.get(at).map(|(_, token)| token), at.checked_sub(1).map(|at| &tokens[at].1)) {
        (Some(Token::Mark(b'(')), Some(Token::Name(name))) => {
            COLLECTORS.iter().chain(&FILLERS).any(|known| known == name).then_some(*name)
        }
        _ => None,
    }
}

/// Returns how often what stands around `at`, a `*` or a bracket, is repeated: the largest number that is written
/// right beside or right inside.
fn repeats(template: &str, tokens: Tokens<'_, '_>, at: usize) -> u64 {
    let near = [at.checked_sub(1), Some(at + 1)].into_iter().flatten();
    let numbers = near.filter_map(|at| number(template, tokens.get(at)?));
    numbers.max().unwrap_or(UNKNOWN_REPEATS)
}

/// Returns the tokens between the bracket that starts `tokens` and the one that closes it.
fn group<'s, 't>(tokens: Tokens<'s, 't>) -> Tokens<'s, 't> {
    let mut depth = 0_usize;
    for (at, (_, token)) in tokens.iter().enumerate() {
        match token {
            Token::Mark(b'(' | b'[' | b'{') => depth += 1,
            Token::Mark(b')' | b']' | b'}') => depth -= 1,
            Token::Mark(_) | Token::Name(_) | Token::Text(_) | Token::Number | Token::Other => {}
        }
        if depth == 0 {
            return &tokens[1..at];
        }
    }
    &tokens[1..]
}

/// Says whether a bracket after this token belongs to what stands before it.
fn ends_value(token: &Token<'_>) -> bool {
    match token {
        Token::Name(name) => !KEYWORDS.contains(name) || *name == "loop",
        Token::Text(_) | Token::Number | Token::Other => true,
        Token::Mark(mark) => matches!(mark, b')' | b']' | b'}'),
    }
}

/// Says whether a name may be given a value here: before `=`, `,` or `in`, or in brackets.
fn is_target(tokens: Tokens<'_, '_>, at: usize) -> bool {
    let is_value = |(_, token): &&(usize, Token<'_>)| matches!(token, Token::Name(name) if KEYWORDS.contains(name));
    let Some((_, Token::Name(_))) = tokens.get(at).filter(|token| !is_value(token)) else {
        return false;
    };
    match tokens.get(at + 1).map(|(_, token)| token) {
        Some(Token::Mark(b'=')) => !matches!(tokens.get(at + 2), Some((_, Token::Mark(b'=')))),
        Some(Token::Mark(b',' | b')') | Token::Name("in")) => true,
        _ => false,
    }
}

/// Returns what stands between the brackets of each `loop(…)`.
fn loops<'s, 't>(tokens: Tokens<'s, 't>) -> impl Iterator<Item = Tokens<'s, 't>> {
    let calls = tokens
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| matches!(pair, [(_, Token::Name("loop")), (_, Token::Mark(b'('))]));
    calls.map(move |(at, _)| group(&tokens[at + 1..]))
}

/// Returns the whole number that a token is.
fn number(template: &str, (byte, token): &(usize, Token<'_>)) -> Option<u64> {
    if *token != Token::Number {
        return None;
    }
    let digits =
        template[*byte..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_');
    let text: String = digits.filter(|byte| *byte != b'_').map(char::from).collect();
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::Growth;

    fn growth(template: &str) -> u64 {
        let mut growth = Growth::default();
        growth.add(template);
        growth.most()
    }

    #[test]
    fn what_prompts_do_grows_by_little() {
        for template in [
            "plain text, {{ a }} and {{ row['b'] }}",
            "{{ price * qty * 1000000 }}{% set t = (a + b) * c %}{{ t * t * 1000 }}",
            "{% for x in items %}{{ loop.index }}: {{ x|upper }}{% endfor %}{{ '-' * 400 }}",
            "{{ items|batch(3)|list }}{{ items|batch(3, '')|list }}{{ range(1000) }}",
            "{% for x in tree recursive %}{{ loop(x.children) }}{% endfor %}",
            "{% for x in tree recursive %}{{ loop([x.left, x.right]) }}{% endfor %}",
            "{% if a in [1, 2, 3] and b in ('x', 'y') %}{% endif %}{{ {'a': a, 'b': [b]} }}",
            &format!("{{% set p = [] %}}{}", "{% set p = p + [a] %}".repeat(30)),
            &"{% set p = [a, b] %}{{ p|join(', ') }}".repeat(200),
        ] {
            assert!(growth(template) < 1000, "{}: {template}", growth(template));
        }
    }

    #[test]
    fn what_doubles_is_counted_however_it_is_written() {
        for (first, again) in [
            ("{% set a = [1] %}", "{% set a = [a, a] %}"),
            ("{% set a = 1, 1 %}", "{% set a = a, a %}"),
            ("{% set a = {'x': 1} %}", "{%- set a = {'x': a, 'y': a} -%}"),
            ("{% set a = dict(x=1) %}", "{% set a = dict(x=a, y=a) %}"),
            ("{% set a = [1] %}", "{% set a = a + a %}"),
            ("", "{% set cell = cell + cell %}"),
            ("", "{% set a = cell|zip(a)|chain(a)|list %}"),
            ("{% set a = [1] %}", "{% set a = [1]|batch(2, a)|list %}"),
            ("{% set a = [1] %}", "{% set a = [a] * 2 %}"),
            ("{% set a, b = [1], [2] %}", "{% set a, b = [a, b], [b, a] %}"),
            ("{% set ñ = [1] %}", "{% set ñ = [ñ, ñ] %}"),
            ("{% with a = [1] %}", "{% with a = [a, a] %}"),
            ("{% for a in [1] %}", "{% for a in [[a, a]] %}"),
            ("{% set a = [1] %}", "{% if x %}{% set a = ([a] if y else []) + a %}{% endif %}"),
        ] {
            let template = first.to_owned() + &again.repeat(30);
            assert!(growth(&template) >= 1 << 30, "{}: {first}{again}", growth(&template));
        }
        let recursive =
            "{% for x in cell recursive %}{% set y = [x, x] %}{{ loop([y]) }}{% endfor %}";
        assert_eq!(growth(recursive), u64::MAX);
        assert!(growth("{{ [[[1] * 1000] * 1000] * 1000 }}") >= 1_000_000_000);
        assert!(growth("{{ [[n * [1]] * n] }}") >= 1 << 40);
    }
}
