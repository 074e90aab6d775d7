//! Reading JSONPath templates.

use serde_json::Value;

use super::{Comparison, Filter, Operand, Part, Step};

type Result<T> = std::result::Result<T, String>;

/// Reads a whole template.
pub(super) fn template(text: &str) -> Result<Vec<Part>> {
    let mut reader = Reader { rest: text };
    let parts = reader.parts(false)?;
    Ok(parts)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Parts up to the end, or up to `{end}` inside a range.
    fn parts(&mut self, in_range: bool) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        while !self.rest.is_empty() {
            let open = self.rest.find('{').unwrap_or(self.rest.len());
            if open > 0 {
                parts.push(Part::Text(self.rest[..open].to_owned()));
                self.rest = &self.rest[open..];
                continue;
            }
            self.rest = &self.rest[1..];
            self.blanks();
            if self.word("end") {
                self.close()?;
                return if in_range { Ok(parts) } else { Err("not in range, nothing to end".to_owned()) };
            }
            parts.push(self.expression()?);
        }
        if in_range { Err("unexpected end of input in a range".to_owned()) } else { Ok(parts) }
    }

    /// What stands in braces, with the closing one.
    fn expression(&mut self) -> Result<Part> {
        if self.word("range") {
            let steps = self.steps()?;
            self.close()?;
            return Ok(Part::Range(steps, self.parts(true)?));
        }
        let part = match self.rest.chars().next() {
            Some('"' | '\'') => Part::Text(self.quoted()?),
            _ => Part::Expression(self.steps()?),
        };
        self.close()?;
        Ok(part)
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn close(&mut self) -> Result<()> {
        self.blanks();
        self.rest = self.rest.strip_prefix('}').ok_or("unclosed action")?;
        Ok(())
    }

    /// Takes a word that ends at a blank or brace.
    fn word(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) if rest.starts_with(|c: char| c == '}' || c.is_whitespace()) => {
                self.rest = rest.trim_start();
                true
            }
            _ => false,
        }
    }

    fn take(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A path, up to what cannot belong to one.
    fn steps(&mut self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        if !self.take("$") {
            self.take("@");
        }
        loop {
            if self.take("..") {
                steps.push(if self.take("*") { Step::Deep(None) } else { Step::Deep(Some(self.name()?)) });
            } else if self.take(".*") {
                steps.push(Step::All);
            } else if self.take(".") {
                // `.` alone is the object itself.
                match self.name() {
                    Ok(name) => steps.push(Step::Field(name)),
                    Err(_) if steps.is_empty() => {}
                    Err(problem) => return Err(problem),
                }
            } else if self.take("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn name(&mut self) -> Result<String> {
        let mut name = String::new();
        let mut characters = self.rest.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => name.extend(characters.next().map(|(_, escaped)| escaped)),
                Some((at, c)) if ".[]{}()=!<>'\",@ ".contains(c) || c.is_whitespace() => break at,
                Some((_, c)) => name.push(c),
                None => break self.rest.len(),
            }
        };
        self.rest = &self.rest[end..];
        if name.is_empty() { Err(format!("a name is missing before {:?}", self.rest)) } else { Ok(name) }
    }

    /// What stands in brackets, with the closing one.
    fn bracket(&mut self) -> Result<Step> {
        self.blanks();
        let step = if self.take("*") {
            Step::All
        } else if self.take("?(") {
            let filter = self.filter()?;
            self.blanks();
            if !self.take(")") {
                return Err("unterminated filter".to_owned());
            }
            Step::Filter(filter)
        } else if self.rest.starts_with(['"', '\'']) {
            Step::Field(self.quoted()?)
        } else {
            self.position()?
        };
        self.blanks();
        if self.take("]") { Ok(step) } else { Err("unterminated array".to_owned()) }
    }

    fn position(&mut self) -> Result<Step> {
        let start = self.integer()?;
        match (start, self.take(":")) {
            (start, true) => Ok(Step::Slice(start, self.integer()?)),
            (Some(index), false) => Ok(Step::Index(index)),
            (None, false) => Err(format!("invalid array index {:?}", self.rest)),
        }
    }

    fn integer(&mut self) -> Result<Option<i64>> {
        let text = self.digits();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| format!("invalid array index {text:?}"))
    }

    fn digits(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits
    }

    fn filter(&mut self) -> Result<Filter> {
        self.blanks();
        let left = self.steps()?;
        self.blanks();
        if self.rest.starts_with(')') {
            return Ok(Filter { left, test: None });
        }
        let comparison = self.comparison()?;
        self.blanks();
        Ok(Filter { left, test: Some((comparison, self.operand()?)) })
    }

    fn comparison(&mut self) -> Result<Comparison> {
        let known = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let found = known.into_iter().find(|(text, _)| self.take(text));
        found
            .map(|(_, comparison)| comparison)
            .ok_or_else(|| format!("unrecognized filter operator at {:?}", self.rest))
    }

    fn operand(&mut self) -> Result<Operand> {
        if self.rest.starts_with(['"', '\'']) {
            return Ok(Operand::Literal(Value::String(self.quoted()?)));
        }
        if self.rest.starts_with(['@', '$', '.']) {
            return Ok(Operand::Path(self.steps()?));
        }
        let end = self.rest.find([')', ' ']).unwrap_or(self.rest.len());
        let (literal, rest) = self.rest.split_at(end);
        self.rest = rest;
        let value = serde_json::from_str(literal);
        value.map(Operand::Literal).map_err(|_| format!("unrecognized literal {literal:?}"))
    }

    fn quoted(&mut self) -> Result<String> {
        let mut characters = self.rest.char_indices();
        let quote = characters.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            match c {
                _ if Some(c) == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| unescaped(escaped))),
                other => text.push(other),
            }
        }
        Err("unterminated quoted string".to_owned())
    }
}

fn unescaped(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}
