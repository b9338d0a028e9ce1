//! Descriptions of presses and their parameters, as data: one source for TOML errors, `press show`, the
//! documentation and the identity of a configured press.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Built, Method};
use crate::error::{Error, Result};

/// What kind of thing an entry of the registry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ranks KV pairs; usable alone, in chains and inside wrappers.
    Scorer,
    /// Decides by itself, layer by layer, during the prefill.
    Press,
    /// Decides over all layers at once, after the prefill.
    Context,
    /// Decides while decoding.
    Decoding,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scorer => "scorer",
            Self::Press => "press",
            Self::Context => "press of whole contexts",
            Self::Decoding => "press of the decoding phase",
        })
    }
}

/// A press that another one wraps: the table `key = { name = "..." }` of its description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wraps {
    /// Name of the table.
    pub key: &'static str,
    /// What it takes; a scorer is a press too.
    pub kind: Kind,
}

impl Wraps {
    /// Whether a press of this kind can be wrapped.
    pub fn accepts_kind(self, kind: Kind) -> bool {
        kind == self.kind || (self.kind == Kind::Press && kind == Kind::Scorer)
    }

    /// Whether this press can be wrapped.
    pub fn accepts(self, built: &Built) -> bool {
        self.accepts_kind(match built {
            Built::Scorer(_) => Kind::Scorer,
            Built::Method(Method::Layer(_)) => Kind::Press,
            Built::Method(Method::Context(_)) => Kind::Context,
            Built::Method(Method::Phases { .. }) => Kind::Decoding,
        })
    }
}

/// Where a press takes its budget from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Budgeting {
    /// From `compression_ratio` (or `budget`, in tokens) beside its parameters.
    #[default]
    Given,
    /// From parameters of its own: it takes no `compression_ratio`.
    Own,
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// A whole number.
    Integer,
    /// A number; whole numbers are accepted.
    Number,
    /// `true` or `false`.
    Flag,
    /// Text in quotes.
    Text,
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Flag => "true or false",
            Self::Text => "text",
        })
    }
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Of type [`ParamType::Integer`].
    Integer(i64),
    /// Of type [`ParamType::Number`].
    Number(f64),
    /// Of type [`ParamType::Flag`].
    Flag(bool),
    /// Of type [`ParamType::Text`].
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value}"),
        }
    }
}

/// Parameters by name, as given; what is absent has its default.
pub type Params = BTreeMap<String, Value>;

/// Allowed range of a number, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Smallest allowed value.
    pub min: f64,
    /// Largest allowed value.
    pub max: f64,
}

impl Range {
    /// Any finite value.
    pub const ANY: Self = Self { min: f64::MIN, max: f64::MAX };

    /// `min` and above.
    pub const fn at_least(min: f64) -> Self {
        Self { min, max: f64::MAX }
    }

    /// From `min` to `max`.
    pub const fn closed(min: f64, max: f64) -> Self {
        Self { min, max }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min == f64::MIN, self.max == f64::MAX) {
            (true, true) => f.write_str("any"),
            (false, true) => write!(f, "at least {}", self.min),
            (true, false) => write!(f, "at most {}", self.max),
            (false, false) => write!(f, "{} to {}", self.min, self.max),
        }
    }
}

/// One parameter of a press.
#[derive(Clone, Debug, Serialize)]
pub struct ParamInfo {
    /// Name in TOML.
    pub name: String,
    /// What it does.
    pub doc: String,
    /// Its type.
    pub kind: ParamType,
    /// Value when absent; `None` where absence has a meaning of its own (told in `doc`).
    pub default: Option<Value>,
    /// Allowed values, for numbers.
    pub range: Range,
    /// Allowed values, for text; empty: any.
    pub choices: Vec<String>,
}

impl ParamInfo {
    /// The value as this parameter takes it: whole numbers become numbers where a number is due.
    ///
    /// # Errors
    /// A sentence that says what was expected: wrong type or outside the range.
    pub fn accept(&self, value: Value) -> Result<Value, String> {
        let accepted = match (self.kind, value) {
            (ParamType::Number, Value::Integer(whole)) => Value::Number(whole as f64),
            (ParamType::Integer, value @ Value::Integer(_))
            | (ParamType::Number, value @ Value::Number(_))
            | (ParamType::Flag, value @ Value::Flag(_))
            | (ParamType::Text, value @ Value::Text(_)) => value,
            (kind, Value::Text(_)) => return Err(format!("`{}` is {kind}, not text", self.name)),
            (kind, other) => return Err(format!("`{}` is {kind}, not `{other}`", self.name)),
        };
        let number = match &accepted {
            Value::Integer(whole) => *whole as f64,
            Value::Number(number) => *number,
            Value::Flag(_) => return Ok(accepted),
            Value::Text(text) if self.choices.is_empty() || self.choices.contains(text) => return Ok(accepted),
            Value::Text(text) => {
                return Err(format!("`{}` is `{text}`, allowed is {}", self.name, self.choices.join(", ")));
            }
        };
        if number >= self.range.min && number <= self.range.max {
            Ok(accepted)
        } else {
            Err(format!("`{}` is {number}, allowed is {}", self.name, self.range))
        }
    }
}

/// Everything a user may want to know about a press before running it.
#[derive(Clone, Debug, Serialize)]
pub struct PressInfo {
    /// Name in TOML and on the command line.
    pub name: String,
    /// What kind of press.
    pub kind: Kind,
    /// Documentation in Markdown: a summary line, then `# Idea`, `# Formula` and `# Paper` sections.
    pub doc: String,
    /// Parameters in the order of declaration.
    pub params: Vec<ParamInfo>,
    /// The presses it wraps.
    pub wraps: Vec<Wraps>,
    /// Where its budget comes from.
    pub budgeting: Budgeting,
}

impl PressInfo {
    /// First line of the documentation.
    pub fn summary(&self) -> &str {
        self.doc.lines().next().unwrap_or_default()
    }

    /// Text under the heading `# name`, if there is one.
    pub fn section(&self, name: &str) -> Option<String> {
        let mut lines = self.doc.lines().skip_while(|line| line.strip_prefix("# ") != Some(name));
        lines.next()?;
        let body: Vec<&str> = lines.take_while(|line| !line.starts_with("# ")).collect();
        Some(body.join("\n").trim().to_owned())
    }

    /// The parameter called `name`.
    pub fn param(&self, name: &str) -> Option<&ParamInfo> {
        self.params.iter().find(|param| param.name == name)
    }

    /// Checks parameters against their types and ranges.
    ///
    /// # Errors
    /// The first unknown, mistyped or out-of-range parameter.
    pub fn check(&self, params: &Params) -> Result<()> {
        for (name, value) in params {
            let param = self
                .param(name)
                .ok_or_else(|| Error::input(format!("press `{}` has no parameter `{name}`", self.name)))?;
            param.accept(value.clone()).map_err(|problem| Error::input(format!("press `{}`: {problem}", self.name)))?;
        }
        Ok(())
    }
}

/// Types that parameters can have in a press's struct.
pub trait ParamValue: Sized {
    /// Type in TOML.
    const TYPE: ParamType;
    /// Allowed texts; empty: any.
    const CHOICES: &'static [&'static str] = &[];
    /// As data; `None` for an absent optional.
    fn to_value(&self) -> Option<Value>;
    /// From data of a checked type.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! integer_param {
    ($($type:ty),*) => {$(
        impl ParamValue for $type {
            const TYPE: ParamType = ParamType::Integer;

            fn to_value(&self) -> Option<Value> {
                i64::try_from(*self).ok().map(Value::Integer)
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Integer(whole) => Self::try_from(whole).ok(),
                    _ => None,
                }
            }
        }
    )*};
}
integer_param!(usize, u64);

impl ParamValue for f64 {
    const TYPE: ParamType = ParamType::Number;

    fn to_value(&self) -> Option<Value> {
        Some(Value::Number(*self))
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(number),
            Value::Integer(whole) => Some(whole as f64),
            _ => None,
        }
    }
}

impl ParamValue for String {
    const TYPE: ParamType = ParamType::Text;

    fn to_value(&self) -> Option<Value> {
        Some(Value::Text(self.clone()))
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl ParamValue for bool {
    const TYPE: ParamType = ParamType::Flag;

    fn to_value(&self) -> Option<Value> {
        Some(Value::Flag(*self))
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }
}

impl<T: ParamValue> ParamValue for Option<T> {
    const TYPE: ParamType = T::TYPE;
    const CHOICES: &'static [&'static str] = T::CHOICES;

    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(ParamValue::to_value)
    }

    fn from_value(value: Value) -> Option<Self> {
        T::from_value(value).map(Some)
    }
}

/// Declares a press's parameters once: the struct with its documentation and defaults, and from the same
/// source its [`PressInfo`], its construction from [`Params`] and its identity.
///
/// ```
/// use pressroom::press::{Params, Range};
///
/// pressroom::press! {
///     /// Keeps the middle of the context.
///     ///
///     /// # Idea
///     /// A press for this example only.
///     "middle" Scorer Middle {
///         /// Tokens always kept at the start.
///         n_sink: usize = 4, Range::at_least(0.0);
///     }
/// }
///
/// assert_eq!(Middle::from_params(&Params::new()).unwrap().n_sink, 4);
/// assert_eq!(Middle::default().identity(), "middle(n_sink=4)");
/// assert_eq!(Middle::info().summary(), "Keeps the middle of the context.");
/// ```
///
/// A press that wraps others says so after its type, `wraps(press: Scorer)`; one whose parameters decide how much it
/// keeps, so that it takes no compression ratio, says `budget(Own)`.
#[macro_export]
macro_rules! press {
    (
        $(#[doc = $doc:literal])+
        $name:literal $kind:ident $type:ident
        $(wraps($($inner:ident : $inner_kind:ident),+))? $(budget($budgeting:ident))? {
            $( $(#[doc = $param_doc:literal])+ $param:ident : $param_type:ty = $default:expr, $range:expr; )*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub struct $type {
            $( $(#[doc = $param_doc])+ pub $param: $param_type, )*
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $( $param: $default, )* }
            }
        }

        #[allow(dead_code, unused_variables)]
        impl $type {
            /// Description of the press and its parameters.
            pub fn info() -> $crate::press::PressInfo {
                use $crate::press::ParamValue;
                let defaults = Self::default();
                $crate::press::PressInfo {
                    name: $name.into(),
                    kind: $crate::press::Kind::$kind,
                    doc: $crate::press::dedent(&[$($doc),+]),
                    params: vec![$( $crate::press::ParamInfo {
                        name: stringify!($param).into(),
                        doc: $crate::press::dedent(&[$($param_doc),+]),
                        kind: <$param_type as ParamValue>::TYPE,
                        default: defaults.$param.to_value(),
                        range: $range,
                        choices: <$param_type as ParamValue>::CHOICES.iter().map(|&choice| choice.into()).collect(),
                    }, )*],
                    wraps: vec![$($( $crate::press::Wraps {
                        key: stringify!($inner),
                        kind: $crate::press::Kind::$inner_kind,
                    } ),+)?],
                    budgeting: [$($crate::press::Budgeting::$budgeting)?].first().copied().unwrap_or_default(),
                }
            }

            /// The parameters given, and defaults for the others.
            ///
            /// # Errors
            /// An unknown name, a wrong type or a value outside its range.
            pub fn from_params(params: &$crate::press::Params) -> $crate::Result<Self> {
                use $crate::press::ParamValue;
                let info = Self::info();
                info.check(params)?;
                let mut configured = Self::default();
                $( if let Some(value) = params.get(stringify!($param)) {
                    configured.$param = <$param_type>::from_value(value.clone()).ok_or_else(|| {
                        $crate::Error::input(format!("`{}` cannot be {value}", stringify!($param)))
                    })?;
                } )*
                Ok(configured)
            }

            /// Name and parameters, as in `name(a=1, b=2)`.
            pub fn identity(&self) -> String {
                self.identity_around(&[])
            }

            /// Name, parameters and what is wrapped (by identity, in the order of the description), as in
            /// `name(a=1, press=inner(b=2))`.
            pub fn identity_around(&self, inner: &[String]) -> String {
                use $crate::press::ParamValue;
                let wrapped: &[&str] = &[$($(stringify!($inner)),+)?];
                let params: Vec<String> = [$( (stringify!($param), self.$param.to_value()), )*]
                    .into_iter()
                    .filter_map(|(name, value): (&str, Option<$crate::press::Value>)| {
                        value.map(|value| format!("{name}={value}"))
                    })
                    .chain(wrapped.iter().zip(inner).map(|(key, inner)| format!("{key}={inner}")))
                    .collect();
                if params.is_empty() { $name.into() } else { format!("{}({})", $name, params.join(", ")) }
            }
        }
    };
}

/// An enum whose variants are the allowed texts of a parameter.
///
/// ```
/// pressroom::choices! {
///     /// Which norm is taken.
///     pub enum Norm { Keys = "keys", Values = "values" }
/// }
/// assert_eq!(<Norm as pressroom::press::ParamValue>::CHOICES, ["keys", "values"]);
/// ```
#[macro_export]
macro_rules! choices {
    ($(#[doc = $doc:literal])+ pub enum $type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $( #[doc = concat!("`", $text, "`")] $variant, )+
        }

        impl $crate::press::ParamValue for $type {
            const TYPE: $crate::press::ParamType = $crate::press::ParamType::Text;
            const CHOICES: &'static [&'static str] = &[$($text),+];

            fn to_value(&self) -> Option<$crate::press::Value> {
                Some($crate::press::Value::Text(match self { $(Self::$variant => $text,)+ }.into()))
            }

            fn from_value(value: $crate::press::Value) -> Option<Self> {
                match value {
                    $( $crate::press::Value::Text(text) if text == $text => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }
    };
}

/// Joins the lines of a doc comment, each of which starts with one space.
pub fn dedent(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::press! {
        /// Keeps the middle of the context.
        ///
        /// # Idea
        /// A press for this test only.
        "middle" Scorer Middle {
            /// Tokens always kept at the start.
            n_sink: usize = 4, Range::closed(0.0, 100.0);
            /// A weight.
            weight: f64 = 0.5, Range::at_least(0.0);
            /// A seed.
            seed: Option<u64> = None, Range::ANY;
        }
    }

    fn with(name: &str, value: Value) -> Result<Middle> {
        Middle::from_params(&Params::from([(name.to_owned(), value)]))
    }

    #[test]
    fn one_source_gives_defaults_identity_and_documentation() {
        assert_eq!(Middle::from_params(&Params::new()).unwrap().n_sink, 4);
        assert_eq!(Middle::default().identity(), "middle(n_sink=4, weight=0.5)");
        assert_eq!(with("seed", Value::Integer(3)).unwrap().identity(), "middle(n_sink=4, weight=0.5, seed=3)");
        let info = Middle::info();
        assert_eq!(info.summary(), "Keeps the middle of the context.");
        assert_eq!(info.section("Idea").as_deref(), Some("A press for this test only."));
        assert_eq!(info.section("Paper"), None);
        assert_eq!(info.param("n_sink").unwrap().doc, "Tokens always kept at the start.");
    }

    #[test]
    fn whole_numbers_are_numbers_and_bad_values_are_refused() {
        assert_eq!(with("weight", Value::Integer(2)).unwrap().weight, 2.0);
        for (name, value, expected) in [
            ("n_sink", Value::Number(1.5), "is a whole number"),
            ("n_sink", Value::Integer(101), "allowed is 0 to 100"),
            ("weight", Value::Number(f64::NAN), "allowed is at least 0"),
            ("weight", Value::Flag(true), "is a number"),
            ("depth", Value::Integer(1), "no parameter `depth`"),
        ] {
            let error = with(name, value).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
