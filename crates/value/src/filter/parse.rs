//! From text to a tree.

use std::ops::Range;

use super::{Filter, FilterError, Op};
use crate::Path;

/// Parentheses and `!` inside of each other.
const MAX_DEPTH: usize = 64;
/// Bytes of a condition.
const MAX_TEXT: usize = 64 << 10;

/// As it is written, with places for errors.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Test { path: Path, place: Range<usize>, test: Option<(Op, Range<usize>, Literal, Range<usize>)> },
}

/// What a field is compared with, before the field's type says what it means.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    /// In quotes, without them; `\*` stays as it is, for patterns.
    Text(Vec<u8>),
    /// Anything else: a number, a name, an address.
    Word(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word,
    Text(Vec<u8>),
    Op(Op),
    And,
    Or,
    Not,
    Open,
    Close,
    End,
}

impl Filter {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`FilterError`] with the place of the first thing that does not belong there.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let mut parser = Parser { text, token: Token::End, place: 0..0, next: 0 };
        if text.len() > MAX_TEXT {
            return Err(FilterError {
                text: String::new(),
                place: 0..0,
                what: format!("the condition is longer than {MAX_TEXT} bytes"),
                unknown: None,
            });
        }
        parser.advance()?;
        if parser.token == Token::End {
            return parser.fail("a condition is wanted, such as pid == 1234");
        }
        let tree = parser.any(0)?;
        match parser.token {
            Token::End => Ok(Filter { text: text.into(), tree }),
            Token::Close => parser.fail("no parenthesis is open here"),
            _ => parser.fail("&& or || is wanted here"),
        }
    }

    pub(super) fn error(&self, place: &Range<usize>, what: impl Into<String>) -> FilterError {
        FilterError { text: self.text.to_string(), place: place.clone(), what: what.into(), unknown: None }
    }
}

struct Parser<'a> {
    text: &'a str,
    token: Token,
    /// Of the token.
    place: Range<usize>,
    /// Where the next one begins, blanks included.
    next: usize,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, what: impl Into<String>) -> Result<T, FilterError> {
        let text = self.text.to_owned();
        Err(FilterError { text, place: self.place.clone(), what: what.into(), unknown: None })
    }

    fn word(&self) -> &'a str {
        self.text.get(self.place.clone()).unwrap_or_default()
    }

    fn any(&mut self, depth: usize) -> Result<Tree, FilterError> {
        let mut parts = vec![self.all(depth)?];
        while self.token == Token::Or {
            self.advance()?;
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Tree, FilterError> {
        let mut parts = vec![self.one(depth)?];
        while self.token == Token::And {
            self.advance()?;
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Tree, FilterError> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        match self.token {
            Token::Not => {
                self.advance()?;
                Ok(Tree::Not(Box::new(self.one(depth.saturating_add(1))?)))
            }
            Token::Open => {
                let open = self.place.clone();
                self.advance()?;
                let inside = self.any(depth.saturating_add(1))?;
                if self.token == Token::End {
                    self.place = open;
                    return self.fail("this parenthesis is not closed");
                }
                if self.token != Token::Close {
                    return self.fail("&&, || or ) is wanted here");
                }
                self.advance()?;
                Ok(inside)
            }
            Token::Word => self.test(),
            Token::Text(_) => self.fail("a field stands here, and fields have no quotes"),
            Token::End => self.fail("a condition is wanted here"),
            Token::Op(_) | Token::And | Token::Or | Token::Close => self.fail("a field is wanted here"),
        }
    }

    fn test(&mut self) -> Result<Tree, FilterError> {
        let Some(path) = Path::parse(self.word()) else {
            return self.fail("a field is wanted here: the name of a member, and the value stands to the right of it");
        };
        let place = self.place.clone();
        self.advance()?;
        let Token::Op(op) = self.token else { return Ok(Tree::Test { path, place, test: None }) };
        let op_place = self.place.clone();
        self.advance()?;
        let literal = match &mut self.token {
            Token::Text(text) => Literal::Text(std::mem::take(text)),
            Token::Word => Literal::Word(self.word().to_owned()),
            _ => return self.fail(format!("a value is wanted behind {}", op.spelled())),
        };
        let literal_place = self.place.clone();
        self.advance()?;
        Ok(Tree::Test { path, place, test: Some((op, op_place, literal, literal_place)) })
    }

    /// Reads the next token.
    fn advance(&mut self) -> Result<(), FilterError> {
        const SIGNS: &[(&str, Token)] = &[
            ("&&", Token::And),
            ("||", Token::Or),
            ("==", Token::Op(Op::Equal)),
            ("!=", Token::Op(Op::NotEqual)),
            ("!~", Token::Op(Op::NotLike)),
            ("<=", Token::Op(Op::LessEqual)),
            (">=", Token::Op(Op::GreaterEqual)),
            ("<", Token::Op(Op::Less)),
            (">", Token::Op(Op::Greater)),
            ("~", Token::Op(Op::Like)),
            ("!", Token::Not),
            ("(", Token::Open),
            (")", Token::Close),
        ];
        let rest = self.text.get(self.next..).unwrap_or_default();
        let blanks = rest.len().saturating_sub(rest.trim_start().len());
        let start = self.next.saturating_add(blanks);
        let rest = rest.trim_start();
        let mut end = start;
        self.token = if let Some(first) = rest.chars().next() {
            let sign = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign));
            if let Some((sign, token)) = sign {
                end = start.saturating_add(sign.len());
                token.clone()
            } else if matches!(first, '"' | '\'') {
                let Some((text, len)) = quoted(rest, first) else {
                    self.place = start..start.saturating_add(1);
                    return self.fail("this quote is not closed");
                };
                end = start.saturating_add(len);
                Token::Text(text)
            } else {
                // Whatever numbers, names, paths and addresses are made of.
                let part = |c: char| c.is_alphanumeric() || "_$.:[]/-+".contains(c);
                let len = rest.find(|c| !part(c)).unwrap_or(rest.len());
                if len == 0 {
                    self.place = start..start.saturating_add(first.len_utf8());
                    return self.fail(match first {
                        '=' => "comparing is written ==",
                        '&' => "and is written &&",
                        '|' => "or is written ||",
                        _ => "this belongs to no condition",
                    });
                }
                end = start.saturating_add(len);
                Token::Word
            }
        } else {
            Token::End
        };
        self.place = start..end;
        self.next = end;
        Ok(())
    }
}

/// The text in quotes at the start of `rest`, and its length with them.
fn quoted(rest: &str, quote: char) -> Option<(Vec<u8>, usize)> {
    let mut text = Vec::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        let c = match c {
            '\\' => match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other if other == quote => other,
                other => {
                    text.push(b'\\');
                    other
                }
            },
            c if c == quote => return Some((text, at.saturating_add(1))),
            c => c,
        };
        text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    None
}
