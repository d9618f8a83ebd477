//! Structures of Thrift's compact protocol as trees, which can be changed and written again. What is written may lie: a
//! list or a text can claim another length than it has.

use super::random::Random;

/// A value of the compact protocol.
#[derive(Debug, Clone)]
pub enum Value {
    Bool(bool),
    /// One of the integers, which differ in their type only: byte, i16, i32 or i64.
    Int(u8, i64),
    Double([u8; 8]),
    Binary {
        bytes: Vec<u8>,
        claimed: Option<u64>,
    },
    List {
        kind: u8,
        items: Vec<Value>,
        claimed: Option<u64>,
    },
    /// Fields by their ids.
    Struct(Vec<(i64, Value)>),
}

impl Value {
    /// Reads a structure. Returns also how many bytes it has.
    pub fn read(bytes: &[u8]) -> (Value, usize) {
        let mut reader = Reader { bytes, at: 0 };
        let value = reader.value(12);
        (value, reader.at)
    }

    /// Writes a structure.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        bytes
    }

    /// Returns a field of a structure.
    pub fn field(&self, id: i64) -> Option<&Value> {
        let Value::Struct(fields) = self else { return None };
        fields.iter().find(|(own, _)| *own == id).map(|(_, value)| value)
    }

    /// Returns a field of a structure, to change it.
    pub fn field_mut(&mut self, id: i64) -> Option<&mut Value> {
        let Value::Struct(fields) = self else { return None };
        fields.iter_mut().find(|(own, _)| *own == id).map(|(_, value)| value)
    }

    /// Returns the items of a list.
    pub fn items(&self) -> &[Value] {
        if let Value::List { items, .. } = self { items } else { &[] }
    }

    /// Returns an item of a list, to change it.
    pub fn item_mut(&mut self, index: usize) -> Option<&mut Value> {
        if let Value::List { items, .. } = self { items.get_mut(index) } else { None }
    }

    /// Returns an integer.
    pub fn int(&self) -> Option<i64> {
        if let Value::Int(_, value) = self { Some(*value) } else { None }
    }

    fn kind(&self) -> u8 {
        match self {
            Value::Bool(true) => 1,
            Value::Bool(false) => 2,
            Value::Int(kind, _) => *kind,
            Value::Double(_) => 7,
            Value::Binary { .. } => 8,
            Value::List { .. } => 9,
            Value::Struct(_) => 12,
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bool(_) => out.push(self.kind()),
            Value::Int(3, value) => out.push(*value as u8),
            Value::Int(_, value) => varint(out, zigzag(*value)),
            Value::Double(bytes) => out.extend(bytes),
            Value::Binary { bytes, claimed } => {
                varint(out, claimed.unwrap_or(bytes.len() as u64));
                out.extend(bytes);
            }
            Value::List { kind, items, claimed } => {
                let len = claimed.unwrap_or(items.len() as u64);
                if len < 15 {
                    out.push((len as u8) << 4 | kind);
                } else {
                    out.push(0xf0 | kind);
                    varint(out, len);
                }
                items.iter().for_each(|item| item.write_to(out));
            }
            Value::Struct(fields) => write_fields(fields, out),
        }
    }

    /// Returns how many values the tree has.
    pub fn count(&self) -> usize {
        1 + match self {
            Value::List { items, .. } => items.iter().map(Value::count).sum(),
            Value::Struct(fields) => fields.iter().map(|(_, value)| value.count()).sum(),
            _ => 0,
        }
    }

    /// Changes the value with this number, counted from the root.
    pub fn mutate(&mut self, number: &mut usize, random: &mut Random) {
        if *number == 0 {
            *number = usize::MAX;
            return self.mutate_here(random);
        }
        *number -= 1;
        let children: Box<dyn Iterator<Item = &mut Value>> = match self {
            Value::List { items, .. } => Box::new(items.iter_mut()),
            Value::Struct(fields) => Box::new(fields.iter_mut().map(|(_, value)| value)),
            _ => return,
        };
        for child in children {
            if *number == usize::MAX {
                return;
            }
            child.mutate(number, random);
        }
    }

    fn mutate_here(&mut self, random: &mut Random) {
        if random.one_in(20) {
            *self = random_value(random, 0);
            return;
        }
        match self {
            Value::Bool(value) => *value = !*value,
            Value::Int(_, value) => *value = random.number_near(*value),
            Value::Double(bytes) => *bytes = random.bits().to_le_bytes(),
            Value::Binary { bytes, claimed } => match random.below(4) {
                0 => *claimed = Some(random.length_near(bytes.len())),
                1 => random.spoil(bytes),
                2 => *bytes = vec![0xff; random.below(300)],
                _ => bytes.push(0),
            },
            Value::List { items, claimed, .. } => match random.below(5) {
                0 => *claimed = Some(random.length_near(items.len())),
                _ => rearrange(items, random),
            },
            Value::Struct(fields) => match random.below(3) {
                0 => {
                    let index = random.below(fields.len());
                    if let Some((id, _)) = fields.get_mut(index) {
                        *id = random.number_near(*id);
                    }
                }
                _ => rearrange(fields, random),
            },
        }
    }
}

/// Removes, repeats or exchanges items.
pub fn rearrange<T: Clone>(items: &mut Vec<T>, random: &mut Random) {
    if items.is_empty() {
        return;
    }
    let (one, other) = (random.below(items.len()), random.below(items.len()));
    match random.below(4) {
        0 => drop(items.remove(one)),
        1 => items.insert(one, items[other].clone()),
        2 => items[one] = items[other].clone(),
        _ => items.swap(one, other),
    }
}

fn random_value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth < 4 { 7 } else { 4 }) {
        0 => Value::Bool(random.one_in(2)),
        1 => Value::Int(3 + random.below(4) as u8, random.number_near(0)),
        2 => Value::Double(random.bits().to_le_bytes()),
        3 => Value::Binary { bytes: vec![random.bits() as u8; random.below(40)], claimed: None },
        4 => Value::List { kind: random.below(16) as u8, items: Vec::new(), claimed: Some(random.length_near(3)) },
        5 => {
            let items: Vec<Value> = (0..random.below(5)).map(|_| random_value(random, depth + 1)).collect();
            Value::List { kind: items.first().map_or(12, Value::kind), items, claimed: None }
        }
        _ => Value::Struct((0..random.below(5)).map(|id| (id as i64, random_value(random, depth + 1))).collect()),
    }
}

fn write_fields(fields: &[(i64, Value)], out: &mut Vec<u8>) {
    let mut last = 0;
    for (id, value) in fields {
        let delta = id.wrapping_sub(last);
        if (1..=15).contains(&delta) {
            out.push((delta as u8) << 4 | value.kind());
        } else {
            out.push(value.kind());
            varint(out, zigzag(*id));
        }
        last = *id;
        // The type of a field tells its boolean.
        if !matches!(value, Value::Bool(_)) {
            value.write_to(out);
        }
    }
    out.push(0);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what a library has written, so it may trust it.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at - 1]
    }

    fn varint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    fn zigzag(&mut self) -> i64 {
        let value = self.varint();
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }

    fn take(&mut self, len: usize) -> &[u8] {
        self.at += len;
        &self.bytes[self.at - len..self.at]
    }

    fn value(&mut self, kind: u8) -> Value {
        match kind {
            1 | 2 => Value::Bool(self.byte() == 1),
            3 => Value::Int(3, i64::from(self.byte() as i8)),
            4..=6 => Value::Int(kind, self.zigzag()),
            7 => Value::Double(*self.take(8).first_chunk().unwrap()),
            8 => {
                let len = self.varint() as usize;
                Value::Binary { bytes: self.take(len).to_vec(), claimed: None }
            }
            9 | 10 => {
                let head = self.byte();
                let len = if head >> 4 == 15 { self.varint() } else { u64::from(head >> 4) };
                let kind = head & 15;
                // Each item has a byte at least; a page header that was changed before may claim more of them.
                let len = len.min(self.bytes.len() as u64);
                Value::List { kind, items: (0..len).map(|_| self.value(kind)).collect(), claimed: None }
            }
            12 => self.fields(),
            other => panic!("type {other} of the compact protocol is not used in Parquet"),
        }
    }

    fn fields(&mut self) -> Value {
        let mut fields = Vec::new();
        let mut last = 0;
        loop {
            let head = self.byte();
            if head == 0 {
                return Value::Struct(fields);
            }
            last = if head >> 4 == 0 { self.zigzag() } else { last + i64::from(head >> 4) };
            let kind = head & 15;
            let value = if kind <= 2 { Value::Bool(kind == 1) } else { self.value(kind) };
            fields.push((last, value));
        }
    }
}
