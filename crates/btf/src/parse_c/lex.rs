//! C text as tokens: comments, the preprocessor's lines, macros without arguments.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};

use super::{CError, expr};

/// Tokens of macros that one text may come to. Macros that hold nothing but each other make work and no text.
const MAX_MADE: usize = 1 << 20;
/// Macros that stand in each other.
const MAX_DEPTH: usize = 32;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Word(String),
    Number(i128),
    /// A string or several characters: nothing that a type needs.
    Text,
    Mark(&'static str),
}

/// A token and where it stands, both from 1.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Placed {
    pub(super) fn error(&self, what: impl Into<String>) -> CError {
        CError { line: self.line, column: self.column, what: what.into() }
    }

    pub(super) fn is(&self, mark: &str) -> bool {
        match &self.token {
            Token::Mark(known) => *known == mark,
            Token::Word(word) => word == mark,
            Token::Number(_) | Token::Text => false,
        }
    }

    /// As the user wrote it, for messages.
    pub(super) fn shown(&self) -> String {
        match &self.token {
            Token::Word(word) => format!("`{word}`"),
            Token::Number(number) => format!("`{number}`"),
            Token::Text => "a string".to_owned(),
            Token::Mark(mark) => format!("`{mark}`"),
        }
    }
}

/// Longest first.
const MARKS: &[&str] = &[
    "...", "<<=", ">>=", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "->", "++", "--", "+=", "-=", "*=", "/=",
    "%=", "&=", "|=", "^=", "##", "{", "}", "(", ")", "[", "]", ";", ",", ":", "*", "=", "+", "-", "/", "%", "<", ">",
    "&", "|", "^", "~", "!", "?", ".", "#", "@", "$", "`", "\\",
];

/// Characters of a text with their places. A backslash before a line's end joins it with the next.
struct Chars {
    rest: VecDeque<(char, u32, u32)>,
}

impl Chars {
    fn new(text: &str) -> Chars {
        let mut rest = VecDeque::new();
        for (line, number) in text.split('\n').zip(1_u32..) {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let joined = line.strip_suffix('\\');
            rest.extend(joined.unwrap_or(line).chars().zip(1_u32..).map(|(c, column)| (c, number, column)));
            if joined.is_none() {
                rest.push_back(('\n', number, u32::try_from(line.len()).unwrap_or(0).saturating_add(1)));
            }
        }
        Chars { rest }
    }

    fn peek(&self, ahead: usize) -> char {
        self.rest.get(ahead).map_or('\0', |(c, _, _)| *c)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some((c, _, _)) = self.rest.front().filter(|(c, _, _)| wanted(*c)) {
            taken.push(*c);
            self.rest.pop_front();
        }
        taken
    }

    fn starts_with(&self, mark: &str) -> bool {
        mark.chars().enumerate().all(|(n, c)| self.peek(n) == c)
    }

    fn skip(&mut self, chars: usize) {
        self.rest.drain(..chars.min(self.rest.len()));
    }

    /// Blanks and comments; with `lines` the ends of lines too.
    fn skip_blank(&mut self, lines: bool) {
        loop {
            let blank = self.take_while(|c| c.is_whitespace() && (lines || c != '\n'));
            if self.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.starts_with("/*") {
                self.skip(2);
                while !self.rest.is_empty() && !self.starts_with("*/") {
                    self.skip(1);
                }
                self.skip(2);
            } else if blank.is_empty() {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Option<Placed>, CError> {
        let Some(&(first, line, column)) = self.rest.front() else { return Ok(None) };
        let placed = |token| Some(Placed { token, line, column });
        let error = |what: &str| CError { line, column, what: what.to_owned() };
        if first.is_alphabetic() || first == '_' {
            return Ok(placed(Token::Word(self.take_while(|c| c.is_alphanumeric() || c == '_'))));
        }
        if first.is_ascii_digit() {
            let text = self.take_while(|c| c.is_ascii_alphanumeric() || c == '.');
            return match number(&text) {
                Some(value) => Ok(placed(Token::Number(value))),
                None if text.contains('.') => Ok(placed(Token::Text)),
                None => Err(error(&format!("`{text}` is no number"))),
            };
        }
        if first == '"' || first == '\'' {
            self.skip(1);
            let mut chars = Vec::new();
            loop {
                match self.peek(0) {
                    '\0' | '\n' => return Err(error("a string that does not end")),
                    '\\' => {
                        chars.push('\0');
                        self.skip(2);
                    }
                    c if c == first => break,
                    c => {
                        chars.push(c);
                        self.skip(1);
                    }
                }
            }
            self.skip(1);
            return Ok(placed(match (first, chars.as_slice()) {
                ('\'', [c]) => Token::Number(i128::from(u32::from(*c))),
                _ => Token::Text,
            }));
        }
        match MARKS.iter().find(|mark| self.starts_with(mark)) {
            Some(mark) => {
                self.skip(mark.len());
                Ok(placed(Token::Mark(mark)))
            }
            None => Err(error(&format!("{first:?} is nothing that C knows"))),
        }
    }
}

fn number(text: &str) -> Option<i128> {
    let text = text.trim_end_matches(['u', 'U', 'l', 'L']);
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok(),
        None => match lower.strip_prefix("0b") {
            Some(bits) => i128::from_str_radix(bits, 2).ok(),
            None if lower.len() > 1 && lower.starts_with('0') => i128::from_str_radix(&lower, 8).ok(),
            None => lower.parse().ok(),
        },
    }
}

/// What `#define` said.
enum Macro {
    Tokens(Vec<Placed>),
    /// It takes arguments: not put in.
    Function,
}

/// Where a part between `#if` and `#endif` stands.
struct Branch {
    /// This part is read.
    on: bool,
    /// A part of it was read, or must not be.
    done: bool,
}

struct Preprocessor {
    macros: HashMap<String, Macro>,
    branches: Vec<Branch>,
    out: Vec<Placed>,
    /// Tokens of macros that were looked at.
    made: Cell<usize>,
}

/// All tokens. Files that the text includes are not read.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, CError> {
    let mut chars = Chars::new(text);
    let mut state = Preprocessor { macros: HashMap::new(), branches: Vec::new(), out: Vec::new(), made: Cell::new(0) };
    loop {
        chars.skip_blank(false);
        if chars.peek(0) == '#' {
            let mut line = Vec::new();
            chars.skip(1);
            loop {
                chars.skip_blank(false);
                if matches!(chars.peek(0), '\n' | '\0') {
                    break;
                }
                let open = chars.peek(0) == '(';
                let at = chars.rest.front().map(|(_, _, column)| *column);
                // What an `#error` or `#pragma` says need not be C.
                match chars.token() {
                    Ok(Some(token)) => line.push((token, open.then_some(at).flatten())),
                    Ok(None) => break,
                    Err(_) => {
                        chars.take_while(|c| c != '\n');
                    }
                }
            }
            state.directive(line);
            continue;
        }
        if chars.peek(0) == '\n' {
            chars.skip(1);
            continue;
        }
        let on = state.branches.iter().all(|branch| branch.on);
        match chars.token() {
            Ok(None) => return Ok(state.out),
            Ok(Some(token)) if on => state.put(token, &mut HashSet::new())?,
            Ok(Some(_)) => {}
            Err(error) if on => return Err(error),
            Err(_) => chars.skip(1),
        }
    }
}

impl Preprocessor {
    /// One line, each token with its column where it is an opening bracket.
    fn directive(&mut self, line: Vec<(Placed, Option<u32>)>) {
        let mut words = line.into_iter();
        let Some((Placed { token: Token::Word(verb), .. }, _)) = words.next() else { return };
        let on = self.branches.iter().all(|branch| branch.on);
        let rest: Vec<(Placed, Option<u32>)> = words.collect();
        let name = match rest.first() {
            Some((Placed { token: Token::Word(name), .. }, _)) => name.clone(),
            _ => String::new(),
        };
        let plain = || rest.iter().map(|(token, _)| token.clone()).collect::<Vec<_>>();
        match verb.as_str() {
            "define" if on && !name.is_empty() => {
                // `NAME(` without a blank takes arguments.
                let end = rest.first().map(|(first, _)| {
                    first.column.saturating_add(u32::try_from(name.chars().count()).unwrap_or(u32::MAX))
                });
                let function = rest.get(1).is_some_and(|(_, bracket)| bracket.is_some() && *bracket == end);
                let body = plain().into_iter().skip(1).collect();
                self.macros.insert(name, if function { Macro::Function } else { Macro::Tokens(body) });
            }
            "undef" if on => {
                self.macros.remove(&name);
            }
            "ifdef" | "ifndef" => {
                let taken = self.macros.contains_key(&name) == (verb == "ifdef");
                self.branches.push(Branch { on: taken, done: taken });
            }
            "if" => {
                let taken = on && self.holds(&plain());
                self.branches.push(Branch { on: taken, done: taken });
            }
            "elif" => {
                let holds = self.holds(&plain());
                if let Some(branch) = self.branches.last_mut() {
                    branch.on = !branch.done && holds;
                    branch.done |= branch.on;
                }
            }
            "else" => {
                if let Some(branch) = self.branches.last_mut() {
                    branch.on = !branch.done;
                    branch.done = true;
                }
            }
            "endif" => {
                self.branches.pop();
            }
            // `include`, `pragma`, `error` and what a compiler adds.
            _ => {}
        }
    }

    /// The condition of an `#if`: names that are no macros are 0, as in C.
    fn holds(&self, line: &[Placed]) -> bool {
        let mut given = Vec::new();
        let mut at = line.iter().peekable();
        while let Some(token) = at.next() {
            if !token.is("defined") {
                given.push(token.clone());
                continue;
            }
            let bracket = at.next_if(|next| next.is("(")).is_some();
            let known =
                matches!(at.next(), Some(Placed { token: Token::Word(name), .. }) if self.macros.contains_key(name));
            if bracket {
                at.next();
            }
            given.push(Placed { token: Token::Number(known.into()), ..token.clone() });
        }
        let mut whole = Vec::new();
        for token in given {
            if self.expand(&token, &mut HashSet::new(), &mut whole).is_err() {
                return false;
            }
        }
        expr::evaluate(&mut Condition(expr::Tokens::new(&whole))).is_ok_and(|value| value != 0)
    }

    fn put(&mut self, token: Placed, inside: &mut HashSet<String>) -> Result<(), CError> {
        let mut out = std::mem::take(&mut self.out);
        let result = self.expand(&token, inside, &mut out);
        self.out = out;
        result
    }

    fn expand(&self, token: &Placed, inside: &mut HashSet<String>, out: &mut Vec<Placed>) -> Result<(), CError> {
        if let Token::Word(word) = &token.token
            && let Some(Macro::Tokens(body)) = self.macros.get(word)
            && inside.insert(word.clone())
        {
            for part in body {
                self.made.set(self.made.get().saturating_add(1));
                if self.made.get() > MAX_MADE || inside.len() > MAX_DEPTH {
                    return Err(token.error("the text's macros come to too much"));
                }
                // A message names the place of the use.
                let part = Placed { token: part.token.clone(), ..token.clone() };
                self.expand(&part, inside, out)?;
            }
            inside.remove(word);
            return Ok(());
        }
        out.push(token.clone());
        Ok(())
    }
}

/// The condition of an `#if`.
struct Condition<'a>(expr::Tokens<'a>);

impl<'a> expr::Source<'a> for Condition<'a> {
    fn tokens(&mut self) -> &mut expr::Tokens<'a> {
        &mut self.0
    }

    fn word(&mut self, _: u32) -> Result<Option<i128>, CError> {
        self.0.next();
        Ok(Some(0))
    }
}
