//! Messages of D-Bus and the values in them, to bytes and back; the D-Bus specification, "Marshaling" and "Message
//! Format".
//!
//! Written is little-endian only; read are both, since the peer chooses for itself. Bytes of a peer never lead to a
//! panic, and a message that is too long is not read.

/// One value with its type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the D-Bus type of that name")]
pub enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The signature of its elements, and these.
    Array(String, Vec<Value>),
    Tuple(Vec<Value>),
    Variant(Box<Value>),
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the message type of that name")]
pub enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// The sender's number for it.
    pub serial: u32,
    /// Which call it answers.
    pub answers: Option<u32>,
    /// The object.
    pub path: Option<String>,
    /// The interface.
    pub interface: Option<String>,
    /// The method or signal.
    pub member: Option<String>,
    /// The name of an error.
    pub error: Option<String>,
    /// Whom it is for.
    pub destination: Option<String>,
    /// Who sent it, as the bus says.
    pub sender: Option<String>,
    /// What it carries.
    pub body: Vec<Value>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a malformed D-Bus message: {0}")]
pub struct Malformed(pub &'static str);

/// The longest message that is read. The specification allows 128 MiB; systemd's own are a few kilobytes.
pub const MAX_LENGTH: usize = 4 << 20;
/// Its limit for containers in containers.
const MAX_DEPTH: u8 = 64;

impl Value {
    /// The value's type.
    #[must_use]
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".to_owned(),
            Self::Bool(_) => "b".to_owned(),
            Self::I16(_) => "n".to_owned(),
            Self::U16(_) => "q".to_owned(),
            Self::I32(_) => "i".to_owned(),
            Self::U32(_) => "u".to_owned(),
            Self::I64(_) => "x".to_owned(),
            Self::U64(_) => "t".to_owned(),
            Self::F64(_) => "d".to_owned(),
            Self::Text(_) => "s".to_owned(),
            Self::Path(_) => "o".to_owned(),
            Self::Signature(_) => "g".to_owned(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Tuple(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
            Self::Variant(_) => "v".to_owned(),
        }
    }

    /// The text of a string or an object path.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) => Some(text),
            Self::Variant(value) => value.text(),
            _ => None,
        }
    }
}

/// How far a value of this type is aligned.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Bytes while they are written.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn put_aligned(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.0.extend(bytes);
    }

    fn put_text(&mut self, text: &str) {
        // No message of ours comes near the limit, which is less than 4 GiB.
        self.put_aligned(&(text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn put_signature(&mut self, signature: &str) {
        self.0.push(signature.len() as u8);
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    fn put(&mut self, value: &Value) {
        match value {
            Value::Byte(value) => self.0.push(*value),
            Value::Bool(value) => self.put_aligned(&u32::from(*value).to_le_bytes()),
            Value::I16(value) => self.put_aligned(&value.to_le_bytes()),
            Value::U16(value) => self.put_aligned(&value.to_le_bytes()),
            Value::I32(value) => self.put_aligned(&value.to_le_bytes()),
            Value::U32(value) => self.put_aligned(&value.to_le_bytes()),
            Value::I64(value) => self.put_aligned(&value.to_le_bytes()),
            Value::U64(value) => self.put_aligned(&value.to_le_bytes()),
            Value::F64(value) => self.put_aligned(&value.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => self.put_text(text),
            Value::Signature(signature) => self.put_signature(signature),
            Value::Array(element, values) => self.put_array(element, values),
            Value::Tuple(fields) => {
                self.align(8);
                fields.iter().for_each(|field| self.put(field));
            }
            Value::Variant(value) => {
                self.put_signature(&value.signature());
                self.put(value);
            }
        }
    }

    fn put_array(&mut self, element: &str, values: &[Value]) {
        self.put_aligned(&[0; 4]);
        let length = self.0.len();
        // What pads to the first element does not count.
        self.align(alignment(element));
        let start = self.0.len();
        values.iter().for_each(|value| self.put(value));
        let bytes = (self.0.len() - start) as u32;
        if let Some(place) = self.0.get_mut(length - 4..length) {
            place.copy_from_slice(&bytes.to_le_bytes());
        }
    }
}

impl Message {
    /// A call of a method.
    #[must_use]
    pub fn call(destination: &str, path: &str, interface: &str, member: &str, body: Vec<Value>) -> Self {
        Self {
            kind: Kind::Call,
            serial: 0,
            answers: None,
            path: Some(path.to_owned()),
            interface: Some(interface.to_owned()),
            member: Some(member.to_owned()),
            error: None,
            destination: Some(destination.to_owned()),
            sender: None,
            body,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.put(value));
        let mut writer = Writer(vec![b'l', self.kind as u8, 0, 1]);
        writer.put(&Value::U32(body.0.len() as u32));
        writer.put(&Value::U32(self.serial));
        writer.put(&Value::Array("(yv)".to_owned(), self.fields()));
        writer.align(8);
        writer.0.extend(body.0);
        writer.0
    }

    fn fields(&self) -> Vec<Value> {
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        let signature: String = self.body.iter().map(Value::signature).collect();
        let fields = [
            (1, self.path.clone().map(Value::Path)),
            (2, text(&self.interface)),
            (3, text(&self.member)),
            (4, text(&self.error)),
            (5, self.answers.map(Value::U32)),
            (6, text(&self.destination)),
            (7, text(&self.sender)),
            (8, (!signature.is_empty()).then_some(Value::Signature(signature))),
        ];
        let field = |(code, value): (u8, Option<Value>)| {
            Some(Value::Tuple(vec![Value::Byte(code), Value::Variant(Box::new(value?))]))
        };
        fields.into_iter().filter_map(field).collect()
    }

    /// How long the message is that begins with these 16 bytes.
    ///
    /// # Errors
    /// It is none, or too long.
    pub fn length(start: &[u8; 16]) -> Result<usize, Malformed> {
        let mut reader = Reader { bytes: start, at: 4, big: is_big(start)?, depth: 0 };
        let body = reader.number()?;
        reader.at = 12;
        let fields = reader.number()?;
        let length = 16_usize.saturating_add(fields).next_multiple_of(8).saturating_add(body);
        if length > MAX_LENGTH { Err(Malformed("it is too long")) } else { Ok(length) }
    }

    /// The message that these bytes are.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err(Malformed("its type is unknown")),
        };
        let mut reader = Reader { bytes, at: 8, big: is_big(bytes)?, depth: 0 };
        let serial = reader.word()?;
        let mut message = Self { kind, serial, ..Self::call("", "", "", "", Vec::new()) };
        (message.path, message.interface, message.member, message.destination) = (None, None, None, None);
        let mut signature = String::new();
        let Value::Array(_, fields) = reader.value("a(yv)")? else {
            return Err(Malformed("it has no header"));
        };
        for field in fields {
            message.take_field(field, &mut signature);
        }
        reader.align(8)?;
        let mut rest = signature.as_str();
        while !rest.is_empty() {
            let (one, behind) = first_type(rest)?;
            message.body.push(reader.value(one)?);
            rest = behind;
        }
        Ok(message)
    }

    fn take_field(&mut self, field: Value, signature: &mut String) {
        let Value::Tuple(pair) = field else { return };
        let [Value::Byte(code), Value::Variant(value)] = &pair[..] else { return };
        match (code, &**value) {
            (1, Value::Path(text)) => self.path = Some(text.clone()),
            (2, Value::Text(text)) => self.interface = Some(text.clone()),
            (3, Value::Text(text)) => self.member = Some(text.clone()),
            (4, Value::Text(text)) => self.error = Some(text.clone()),
            (5, Value::U32(serial)) => self.answers = Some(*serial),
            (6, Value::Text(text)) => self.destination = Some(text.clone()),
            (7, Value::Text(text)) => self.sender = Some(text.clone()),
            (8, Value::Signature(text)) => signature.clone_from(text),
            // Unknown fields are to be ignored.
            _ => {}
        }
    }
}

fn is_big(bytes: &[u8]) -> Result<bool, Malformed> {
    match bytes.first() {
        Some(b'l') => Ok(false),
        Some(b'B') => Ok(true),
        _ => Err(Malformed("its byte order is unknown")),
    }
}

/// The first complete type of a signature, and what follows it.
fn first_type(signature: &str) -> Result<(&str, &str), Malformed> {
    let bad = Malformed("its signature is none");
    let mut open = 0_u8;
    for (at, letter) in signature.bytes().enumerate() {
        match letter {
            b'a' => continue,
            b'(' | b'{' => open = open.saturating_add(1),
            b')' | b'}' => open = open.checked_sub(1).ok_or(bad.clone())?,
            _ => {}
        }
        if open == 0 {
            return signature.split_at_checked(at + 1).ok_or(bad);
        }
    }
    Err(bad)
}

/// Bytes while they are read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
    depth: u8,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) -> Result<(), Malformed> {
        self.at = self.at.next_multiple_of(to);
        if self.at > self.bytes.len() { Err(Malformed("it ends early")) } else { Ok(()) }
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Malformed> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(Malformed("it ends early"))?;
        self.at += length;
        Ok(taken)
    }

    /// A number in native byte order.
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.align(N)?;
        let big = self.big;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if big != cfg!(target_endian = "big") {
            bytes.reverse();
        }
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_ne_bytes)
    }

    fn number(&mut self) -> Result<usize, Malformed> {
        self.word().map(|word| word as usize)
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let text = String::from_utf8(self.take(length)?.to_owned());
        self.take(1)?;
        text.map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn value(&mut self, signature: &str) -> Result<Value, Malformed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Malformed("it is nested too deep"));
        }
        let value = self.read(signature)?;
        self.depth -= 1;
        Ok(value)
    }

    fn read(&mut self, signature: &str) -> Result<Value, Malformed> {
        Ok(match signature.as_bytes() {
            [b'y'] => Value::Byte(u8::from_ne_bytes(self.fixed()?)),
            [b'b'] => Value::Bool(self.word()? != 0),
            [b'n'] => Value::I16(i16::from_ne_bytes(self.fixed()?)),
            [b'q'] => Value::U16(u16::from_ne_bytes(self.fixed()?)),
            [b'i'] => Value::I32(i32::from_ne_bytes(self.fixed()?)),
            [b'u' | b'h'] => Value::U32(self.word()?),
            [b'x'] => Value::I64(i64::from_ne_bytes(self.fixed()?)),
            [b't'] => Value::U64(u64::from_ne_bytes(self.fixed()?)),
            [b'd'] => Value::F64(f64::from_ne_bytes(self.fixed()?)),
            [b's'] => {
                let length = self.number()?;
                Value::Text(self.text(length)?)
            }
            [b'o'] => {
                let length = self.number()?;
                Value::Path(self.text(length)?)
            }
            [b'g'] => Value::Signature(self.signature()?),
            [b'v'] => {
                let signature = self.signature()?;
                if !first_type(&signature)?.1.is_empty() {
                    return Err(Malformed("a variant has many types"));
                }
                Value::Variant(Box::new(self.value(&signature)?))
            }
            [b'a', ..] => self.array(signature.get(1..).unwrap_or_default())?,
            [b'(', .., b')'] | [b'{', .., b'}'] => self.tuple(signature)?,
            _ => return Err(Malformed("its signature is none")),
        })
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let [length] = self.fixed()?;
        self.text(usize::from(length))
    }

    fn array(&mut self, element: &str) -> Result<Value, Malformed> {
        let length = self.number()?;
        self.align(alignment(element))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Malformed("it ends early"))?;
        let mut values = Vec::new();
        while self.at < end {
            let before = self.at;
            values.push(self.value(element)?);
            if self.at == before {
                return Err(Malformed("an array has elements of no length"));
            }
        }
        Ok(Value::Array(element.to_owned(), values))
    }

    fn tuple(&mut self, signature: &str) -> Result<Value, Malformed> {
        self.align(8)?;
        let mut rest = signature.get(1..signature.len() - 1).unwrap_or_default();
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let (one, behind) = first_type(rest)?;
            fields.push(self.value(one)?);
            rest = behind;
        }
        Ok(Value::Tuple(fields))
    }
}
