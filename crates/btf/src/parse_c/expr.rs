//! Constant expressions: lengths of arrays, widths of bit-fields, values of enums, conditions of `#if`.

use super::CError;
use super::lex::{Placed, Token};

/// Brackets and signs within each other.
const MAX_DEPTH: u32 = 64;

/// Tokens, and where the reader is.
pub(super) struct Tokens<'a> {
    all: &'a [Placed],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(all: &'a [Placed]) -> Tokens<'a> {
        Tokens { all, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'a Placed> {
        self.all.get(self.at)
    }

    pub(super) fn after(&self, tokens: usize) -> Option<&'a Placed> {
        self.all.get(self.at.saturating_add(tokens))
    }

    pub(super) fn next(&mut self) -> Option<&'a Placed> {
        let token = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(token)
    }

    /// Where the reader is, for [`Tokens::back_to`].
    pub(super) fn place(&self) -> usize {
        self.at
    }

    pub(super) fn back_to(&mut self, place: usize) {
        self.at = place;
    }

    /// Takes this mark or word, if it is next.
    pub(super) fn take(&mut self, mark: &str) -> bool {
        let there = self.peek().is_some_and(|token| token.is(mark));
        if there {
            self.next();
        }
        there
    }

    pub(super) fn expect(&mut self, mark: &str) -> Result<(), CError> {
        if self.take(mark) { Ok(()) } else { Err(self.error(format!("`{mark}` is missing"))) }
    }

    /// An error at the next token.
    pub(super) fn error(&self, what: impl Into<String>) -> CError {
        match (self.peek(), self.all.last()) {
            (Some(token), _) => token.error(format!("{}, here is {}", what.into(), token.shown())),
            (None, Some(last)) => last.error(format!("{}, and the text ends behind {}", what.into(), last.shown())),
            (None, None) => CError { line: 1, column: 1, what: "there is no text".to_owned() },
        }
    }

    /// Goes behind the bracket that closes the one that was just taken.
    pub(super) fn close(&mut self) {
        let mut depth = 1_usize;
        while let Some(token) = self.next() {
            if token.is("(") || token.is("[") || token.is("{") {
                depth = depth.saturating_add(1);
            } else if token.is(")") || token.is("]") || token.is("}") {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return;
                }
            }
        }
    }
}

/// Where an expression is read from.
pub(super) trait Source<'a> {
    fn tokens(&mut self) -> &mut Tokens<'a>;

    /// What the name, or the `sizeof`, is worth that comes next; what is worth something is taken.
    fn word(&mut self, depth: u32) -> Result<Option<i128>, CError>;
}

/// Binary operators by how strongly they bind, the weakest first.
const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", ">", "<=", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

pub(super) fn evaluate<'a>(from: &mut impl Source<'a>) -> Result<i128, CError> {
    conditional(from, MAX_DEPTH)
}

fn conditional<'a>(from: &mut impl Source<'a>, depth: u32) -> Result<i128, CError> {
    let Some(depth) = depth.checked_sub(1) else { return Err(from.tokens().error("the expression is too deep")) };
    let condition = binary(from, LEVELS, depth)?;
    if !from.tokens().take("?") {
        return Ok(condition);
    }
    let yes = conditional(from, depth)?;
    from.tokens().expect(":")?;
    let no = conditional(from, depth)?;
    Ok(if condition != 0 { yes } else { no })
}

fn binary<'a>(from: &mut impl Source<'a>, levels: &[&[&str]], depth: u32) -> Result<i128, CError> {
    let Some((marks, tighter)) = levels.split_first() else { return unary(from, depth) };
    let mut left = binary(from, tighter, depth)?;
    while let Some(mark) = marks.iter().find(|mark| from.tokens().peek().is_some_and(|token| token.is(mark))) {
        from.tokens().next();
        let right = binary(from, tighter, depth)?;
        left = apply(mark, left, right).ok_or_else(|| from.tokens().error("this has no value"))?;
    }
    Ok(left)
}

fn apply(mark: &str, left: i128, right: i128) -> Option<i128> {
    let shift = || u32::try_from(right).ok().filter(|bits| *bits < 64);
    match mark {
        "||" => Some((left != 0 || right != 0).into()),
        "&&" => Some((left != 0 && right != 0).into()),
        "|" => Some(left | right),
        "^" => Some(left ^ right),
        "&" => Some(left & right),
        "==" => Some((left == right).into()),
        "!=" => Some((left != right).into()),
        "<" => Some((left < right).into()),
        ">" => Some((left > right).into()),
        "<=" => Some((left <= right).into()),
        ">=" => Some((left >= right).into()),
        "<<" => left.checked_mul(1_i128.checked_shl(shift()?)?),
        ">>" => left.checked_shr(shift()?),
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => left.checked_div(right),
        _ => left.checked_rem(right),
    }
}

fn unary<'a>(from: &mut impl Source<'a>, depth: u32) -> Result<i128, CError> {
    let Some(depth) = depth.checked_sub(1) else { return Err(from.tokens().error("the expression is too deep")) };
    if from.tokens().take("-") {
        return unary(from, depth)?.checked_neg().ok_or_else(|| from.tokens().error("this has no value"));
    }
    if from.tokens().take("+") {
        return unary(from, depth);
    }
    if from.tokens().take("~") {
        return Ok(!unary(from, depth)?);
    }
    if from.tokens().take("!") {
        return Ok((unary(from, depth)? == 0).into());
    }
    if from.tokens().take("(") {
        let value = conditional(from, depth)?;
        from.tokens().expect(")")?;
        return Ok(value);
    }
    match from.tokens().peek().map(|token| &token.token) {
        Some(Token::Number(value)) => {
            from.tokens().next();
            Ok(*value)
        }
        Some(Token::Word(word)) => match from.word(depth)? {
            Some(value) => Ok(value),
            None => Err(from.tokens().error(format!("the value of `{word}` is not known"))),
        },
        Some(Token::Text | Token::Mark(_)) | None => Err(from.tokens().error("a number is missing")),
    }
}
