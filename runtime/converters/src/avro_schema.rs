//! Avro's schemas: <https://avro.apache.org/docs/1.12.0/specification/>.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// The most digits after the point of a decimal: a scale of billions would make billions of zeros.
const MOST_SCALE: u64 = 1000;

/// The most bytes of a fixed.
const LARGEST_FIXED: u64 = 64 << 20;

/// A schema that was understood: its types, which refer to each other by their place.
#[derive(Debug)]
pub(crate) struct AvroSchema {
    nodes: Vec<Node>,
    root: usize,
}

/// A type.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Date,
    /// `true`: on a long, not an int.
    Time(Unit, bool),
    /// `true`: in UTC, not in whatever place.
    Timestamp(Unit, bool),
    Decimal(Decimal),
    /// On a fixed of 16 bytes, with its name.
    Uuid(String),
    Fixed {
        name: String,
        size: usize,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
    },
    Array(usize),
    Map(usize),
    Union(Union),
    Record {
        name: String,
        fields: Vec<Field>,
    },
}

/// What a time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// A decimal, on bytes or on a fixed with a name and a size.
#[derive(Debug)]
pub(crate) struct Decimal {
    pub(crate) precision: usize,
    pub(crate) scale: usize,
    pub(crate) fixed: Option<(String, usize)>,
}

/// One of several types.
#[derive(Debug)]
pub(crate) struct Union {
    pub(crate) branches: Vec<usize>,
    /// The branch that is null.
    pub(crate) null: Option<usize>,
    /// The one branch that is not null, where there is one.
    pub(crate) only: Option<usize>,
}

/// A record's field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) node: usize,
    pub(crate) default: Option<Value>,
}

impl AvroSchema {
    /// Reads a schema; those that it refers to come before it.
    ///
    /// # Errors
    /// What is wrong and where in the schema, for people.
    pub(crate) fn parse(referred: &[Value], schema: &Value) -> Result<AvroSchema, String> {
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new() };
        for one in referred {
            parser.node(one, "").map_err(|why| format!("a referred schema: {why}"))?;
        }
        let root = parser.node(schema, "")?;
        Ok(AvroSchema { nodes: parser.nodes, root })
    }

    /// The type of the whole.
    pub(crate) fn root(&self) -> usize {
        self.root
    }

    /// The type at a place.
    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// What a union's branch is called in JSON.
    pub(crate) fn branch_name(&self, at: usize) -> &str {
        match self.node(at) {
            Node::Null => "null",
            Node::Boolean => "boolean",
            Node::Int | Node::Date | Node::Time(_, false) => "int",
            Node::Long | Node::Time(_, true) | Node::Timestamp(..) => "long",
            Node::Float => "float",
            Node::Double => "double",
            Node::Bytes => "bytes",
            Node::String => "string",
            Node::Decimal(decimal) => decimal.fixed.as_ref().map_or("bytes", |(name, _)| name),
            Node::Uuid(name) | Node::Fixed { name, .. } | Node::Enum { name, .. } | Node::Record { name, .. } => name,
            Node::Array(_) => "array",
            Node::Map(_) => "map",
            Node::Union(_) => "union",
        }
    }
}

struct Parser {
    nodes: Vec<Node>,
    /// By full name.
    names: HashMap<String, usize>,
}

impl Parser {
    /// The place of a type within a namespace.
    fn node(&mut self, schema: &Value, namespace: &str) -> Result<usize, String> {
        match schema {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(schema) => self.complex(schema, namespace),
            other => Err(format!("{other} is no type, expected a name, a list or a mapping")),
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<usize, String> {
        if let Some(primitive) = primitive(name) {
            return Ok(self.add(primitive));
        }
        let full = full_name(name, namespace);
        // A name without a namespace may also be that of the null namespace.
        let found = self.names.get(&full).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("there is no type `{full}`"))
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<usize, String> {
        let inner = branches.iter().enumerate().map(|(at, branch)| {
            let inner = self.node(branch, namespace).map_err(|why| format!("branch {at}: {why}"))?;
            match self.nodes[inner] {
                Node::Union(_) => Err(format!("branch {at}: is a union in a union")),
                _ => Ok(inner),
            }
        });
        let branches = inner.collect::<Result<Vec<_>, _>>()?;
        let is_null = |at: &usize| matches!(self.nodes[branches[*at]], Node::Null);
        let null = (0..branches.len()).find(is_null);
        let mut others = (0..branches.len()).filter(|at| !is_null(at));
        let only = others.next().filter(|_| others.next().is_none());
        Ok(self.add(Node::Union(Union { branches, null, only })))
    }

    fn complex(&mut self, schema: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(inner @ (Value::Object(_) | Value::Array(_))) => return self.node(inner, namespace),
            _ => return Err("has no `type`".to_owned()),
        };
        match kind {
            "record" | "error" => self.record(schema, namespace),
            "enum" => self.symbols(schema, namespace),
            "fixed" => self.fixed(schema, namespace),
            "array" | "map" => {
                let inner = if kind == "array" { "items" } else { "values" };
                let of = schema.get(inner).ok_or_else(|| format!("the {kind} has no `{inner}`"))?;
                let at = self.node(of, namespace).map_err(|why| format!("{inner}: {why}"))?;
                Ok(self.add(if kind == "array" { Node::Array(at) } else { Node::Map(at) }))
            }
            kind => match primitive(kind) {
                Some(plain) => {
                    let node = logical(schema, &plain)?.unwrap_or(plain);
                    Ok(self.add(node))
                }
                None => self.named(kind, namespace),
            },
        }
    }

    /// Gives a name to the place that the next type will have; answers with it and the namespace that is inside.
    fn declare(&mut self, schema: &Map<String, Value>, namespace: &str) -> Result<(String, String), String> {
        let name = schema.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or("a record, enum or fixed has no `name`")?;
        let own = schema.get("namespace").and_then(Value::as_str);
        let full = full_name(name, own.unwrap_or(namespace));
        if primitive(&full).is_some() {
            return Err(format!("`{full}` is the name of a type of Avro's own"));
        }
        if self.names.insert(full.clone(), self.nodes.len()).is_some() {
            return Err(format!("the type `{full}` is declared twice"));
        }
        let inside = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        Ok((full, inside))
    }

    fn record(&mut self, schema: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let (name, inside) = self.declare(schema, namespace)?;
        let declared = schema.get("fields").and_then(Value::as_array);
        let declared = declared.ok_or_else(|| format!("the record `{name}` has no `fields`"))?;
        // Its fields may be of its own type, so its place is taken before they are read.
        let place = self.add(Node::Record { name: name.clone(), fields: Vec::new() });
        let mut fields = Vec::with_capacity(declared.len());
        let mut seen = BTreeSet::new();
        for field in declared {
            let found = field.get("name").and_then(Value::as_str);
            let field_name = found.ok_or_else(|| format!("a field of `{name}` has no `name`"))?;
            let wrong = |why: String| format!("field `{field_name}` of `{name}`: {why}");
            if !seen.insert(field_name) {
                return Err(wrong("is declared twice".to_owned()));
            }
            let of = field.get("type").ok_or_else(|| wrong("has no `type`".to_owned()))?;
            let node = self.node(of, &inside).map_err(wrong)?;
            fields.push(Field { name: field_name.to_owned(), node, default: field.get("default").cloned() });
        }
        self.nodes[place] = Node::Record { name, fields };
        Ok(place)
    }

    fn symbols(&mut self, schema: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let (name, _) = self.declare(schema, namespace)?;
        let symbols = schema.get("symbols").and_then(Value::as_array).into_iter().flatten();
        let symbols: Option<Vec<String>> = symbols.map(|symbol| symbol.as_str().map(str::to_owned)).collect();
        match symbols.filter(|symbols| !symbols.is_empty()) {
            Some(symbols) => Ok(self.add(Node::Enum { name, symbols })),
            None => Err(format!("the enum `{name}` has no `symbols`")),
        }
    }

    fn fixed(&mut self, schema: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let (name, _) = self.declare(schema, namespace)?;
        let size = schema.get("size").and_then(Value::as_u64).filter(|size| *size <= LARGEST_FIXED);
        let size = size.ok_or_else(|| format!("the fixed `{name}` has no `size` up to {LARGEST_FIXED}"))? as usize;
        let node = match schema.get("logicalType").and_then(Value::as_str) {
            Some("uuid") if size == 16 => Node::Uuid(name),
            Some("decimal") => match decimal(schema)? {
                Some((precision, scale)) => Node::Decimal(Decimal { precision, scale, fixed: Some((name, size)) }),
                None => Node::Fixed { name, size },
            },
            _ => Node::Fixed { name, size },
        };
        Ok(self.add(node))
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::String,
        _ => return None,
    })
}

/// What a type means; one that makes no sense there means nothing, as the specification has it.
fn logical(schema: &Map<String, Value>, plain: &Node) -> Result<Option<Node>, String> {
    let Some(name) = schema.get("logicalType").and_then(Value::as_str) else { return Ok(None) };
    Ok(match (name, plain) {
        ("decimal", Node::Bytes) => {
            decimal(schema)?.map(|(precision, scale)| Node::Decimal(Decimal { precision, scale, fixed: None }))
        }
        ("date", Node::Int) => Some(Node::Date),
        ("time-millis", Node::Int) => Some(Node::Time(Unit::Millis, false)),
        ("time-micros", Node::Long) => Some(Node::Time(Unit::Micros, true)),
        ("timestamp-millis", Node::Long) => Some(Node::Timestamp(Unit::Millis, true)),
        ("timestamp-micros", Node::Long) => Some(Node::Timestamp(Unit::Micros, true)),
        ("timestamp-nanos", Node::Long) => Some(Node::Timestamp(Unit::Nanos, true)),
        ("local-timestamp-millis", Node::Long) => Some(Node::Timestamp(Unit::Millis, false)),
        ("local-timestamp-micros", Node::Long) => Some(Node::Timestamp(Unit::Micros, false)),
        ("local-timestamp-nanos", Node::Long) => Some(Node::Timestamp(Unit::Nanos, false)),
        _ => None,
    })
}

/// Precision and scale; `None` where they make no sense.
fn decimal(schema: &Map<String, Value>) -> Result<Option<(usize, usize)>, String> {
    let number = |name: &str| schema.get(name).map(Value::as_u64);
    let scale = number("scale").unwrap_or(Some(0));
    let (Some(Some(precision)), Some(scale)) = (number("precision"), scale) else { return Ok(None) };
    match (precision, scale) {
        (_, scale) if scale > MOST_SCALE => {
            Err(format!("a decimal has the scale {scale}, at most {MOST_SCALE} is read"))
        }
        (0, _) => Ok(None),
        // Kafka Connect writes decimals whose scale is above their precision.
        (precision, scale) => Ok(Some((precision as usize, scale as usize))),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match namespace.is_empty() || name.contains('.') {
        true => name.trim_start_matches('.').to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_in_their_namespace() {
        let schema = json!({
            "type": "record", "name": "a.b.Outer", "fields": [
                {"name": "one", "type": {"type": "fixed", "name": "Hash", "size": 4}},
                {"name": "two", "type": "Hash"},
                {"name": "three", "type": "a.b.Hash"},
                {"name": "self", "type": ["null", "Outer"]},
                {"name": "other", "type": {"type": "enum", "name": "E", "namespace": "c", "symbols": ["X"]}},
                {"name": "again", "type": "c.E"},
            ],
        });
        let schema = AvroSchema::parse(&[], &schema).unwrap();
        let Node::Record { name, fields } = schema.node(schema.root()) else { panic!() };
        assert_eq!(name, "a.b.Outer");
        let names: Vec<_> = fields.iter().map(|field| schema.branch_name(field.node)).collect();
        assert_eq!(names, ["a.b.Hash", "a.b.Hash", "a.b.Hash", "union", "c.E", "c.E"]);
    }

    #[test]
    fn what_is_referred_to_comes_first() {
        let referred = [json!({"type": "record", "name": "x.Address", "fields": []})];
        let schema = json!({"type": "record", "name": "x.User", "fields": [{"name": "at", "type": "Address"}]});
        assert!(AvroSchema::parse(&referred, &schema).is_ok());
        assert!(
            AvroSchema::parse(&[], &schema)
                .unwrap_err()
                .contains("field `at` of `x.User`: there is no type `x.Address`")
        );
    }

    #[test]
    fn schemas_that_are_none_say_why() {
        for (schema, part) in [
            (json!(5), "5 is no type"),
            (json!({"name": "x"}), "has no `type`"),
            (json!({"type": "record", "fields": []}), "has no `name`"),
            (json!({"type": "record", "name": "R"}), "`R` has no `fields`"),
            (json!({"type": "enum", "name": "E", "symbols": []}), "has no `symbols`"),
            (json!({"type": "fixed", "name": "F", "size": -1}), "has no `size`"),
            (json!({"type": "fixed", "name": "F", "size": 1_u64 << 40}), "has no `size` up to"),
            (json!({"type": "array"}), "has no `items`"),
            (json!(["null", ["int"]]), "a union in a union"),
            (json!({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 100_000}), "the scale 100000"),
            (
                json!({"type": "record", "name": "R", "fields": [
                    {"name": "a", "type": "int"}, {"name": "a", "type": "int"},
                ]}),
                "field `a` of `R`: is declared twice",
            ),
            (json!(["int", {"type": "enum", "name": "int", "symbols": ["A"]}]), "type of Avro's own"),
        ] {
            let reason = AvroSchema::parse(&[], &schema).unwrap_err();
            assert!(reason.contains(part), "{schema}: {reason}");
        }
    }
}
