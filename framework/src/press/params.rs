//! Parameters of presses and tasks, as data: their types, ranges and defaults, declared once.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::error::{Error, Result};

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
    /// Several, of a parameter that takes many.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value}"),
            Self::List(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
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

/// One parameter of a press or a task.
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
    /// Whether it takes a list of such values; one alone is a list of one.
    pub many: bool,
}

impl ParamInfo {
    /// The value as this parameter takes it: whole numbers become numbers where a number is due.
    ///
    /// # Errors
    /// A sentence that says what was expected: wrong type or outside the range.
    pub fn accept(&self, value: Value) -> Result<Value, String> {
        match value {
            Value::List(values) if self.many => {
                if values.is_empty() {
                    return Err(format!("`{}` is an empty list", self.name));
                }
                values.into_iter().map(|value| self.accept_one(value)).collect::<Result<_, _>>().map(Value::List)
            }
            one if self.many => Ok(Value::List(vec![self.accept_one(one)?])),
            one => self.accept_one(one),
        }
    }

    fn accept_one(&self, value: Value) -> Result<Value, String> {
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
            Value::Flag(_) | Value::List(_) => return Ok(accepted),
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

/// Checks parameters of `what` against their types and ranges.
///
/// # Errors
/// The first unknown, mistyped or out-of-range parameter.
pub fn check_params(what: &str, known: &[ParamInfo], params: &Params) -> Result<()> {
    for (name, value) in params {
        let param = known.iter().find(|param| param.name == *name);
        let param = param.ok_or_else(|| Error::input(format!("{what} has no parameter `{name}`")))?;
        param.accept(value.clone()).map_err(|problem| Error::input(format!("{what}: {problem}")))?;
    }
    Ok(())
}

/// The parameters given, with the defaults of the others.
pub fn with_defaults(known: &[ParamInfo], mut params: Params) -> Params {
    for param in known {
        if let Some(default) = &param.default {
            params.entry(param.name.clone()).or_insert_with(|| default.clone());
        }
    }
    params
}

/// Types that parameters can have in a struct.
pub trait ParamValue: Sized {
    /// Type in TOML.
    const TYPE: ParamType;
    /// Allowed texts; empty: any.
    const CHOICES: &'static [&'static str] = &[];
    /// Whether it is a list.
    const MANY: bool = false;
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
    const MANY: bool = T::MANY;

    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(ParamValue::to_value)
    }

    fn from_value(value: Value) -> Option<Self> {
        T::from_value(value).map(Some)
    }
}

impl<T: ParamValue> ParamValue for Vec<T> {
    const TYPE: ParamType = T::TYPE;
    const CHOICES: &'static [&'static str] = T::CHOICES;
    const MANY: bool = true;

    fn to_value(&self) -> Option<Value> {
        Some(Value::List(self.iter().filter_map(ParamValue::to_value).collect()))
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::List(values) => values.into_iter().map(T::from_value).collect(),
            one => Some(vec![T::from_value(one)?]),
        }
    }
}

/// Declares parameters once: the struct with its documentation and defaults, and from the same source their
/// descriptions and the struct's construction from [`Params`].
///
/// ```
/// use pressroom::press::{Params, Range};
///
/// pressroom::parameters! {
///     /// How tea is made.
///     "recipe" "tea" Tea {
///         /// How long it steeps, minutes.
///         minutes: Vec<f64> = vec![3.0], Range::at_least(0.0);
///     }
/// }
///
/// assert_eq!(Tea::from_params(&Params::new()).unwrap().minutes, [3.0]);
/// assert!(Tea::parameters()[0].many);
/// ```
#[macro_export]
macro_rules! parameters {
    (
        $(#[doc = $doc:literal])+
        $what:literal $name:literal $type:ident {
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

        #[allow(dead_code, unused_variables, unused_mut)]
        impl $type {
            /// Descriptions of the parameters, in the order of declaration.
            pub fn parameters() -> Vec<$crate::press::ParamInfo> {
                use $crate::press::ParamValue;
                let defaults = Self::default();
                vec![$( $crate::press::ParamInfo {
                    name: stringify!($param).into(),
                    doc: $crate::press::dedent(&[$($param_doc),+]),
                    kind: <$param_type as ParamValue>::TYPE,
                    default: defaults.$param.to_value(),
                    range: $range,
                    choices: <$param_type as ParamValue>::CHOICES.iter().map(|&choice| choice.into()).collect(),
                    many: <$param_type as ParamValue>::MANY,
                }, )*]
            }

            /// The parameters given, and defaults for the others.
            ///
            /// # Errors
            /// An unknown name, a wrong type or a value outside its range.
            pub fn from_params(params: &$crate::press::Params) -> $crate::Result<Self> {
                use $crate::press::ParamValue;
                $crate::press::check_params(concat!($what, " `", $name, "`"), &Self::parameters(), params)?;
                let mut configured = Self::default();
                $( if let Some(value) = params.get(stringify!($param)) {
                    configured.$param = <$param_type>::from_value(value.clone()).ok_or_else(|| {
                        $crate::Error::input(format!("`{}` cannot be {value}", stringify!($param)))
                    })?;
                } )*
                Ok(configured)
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

    crate::parameters! {
        /// Parameters of this test.
        "recipe" "tea" Tea {
            /// How long it steeps, minutes.
            minutes: Vec<f64> = vec![3.0], Range::closed(0.0, 10.0);
            /// With what.
            herbs: Option<Vec<String>> = None, Range::ANY;
        }
    }

    #[test]
    fn one_alone_is_a_list_of_one() {
        let minutes = |value: Value| {
            let accepted = Tea::parameters()[0].accept(value)?;
            let tea = Tea::from_params(&Params::from([("minutes".to_owned(), accepted)]));
            tea.map(|tea| tea.minutes).map_err(|error| error.to_string())
        };
        assert_eq!(minutes(Value::Integer(2)).unwrap(), [2.0]);
        assert_eq!(minutes(Value::List(vec![Value::Integer(2), Value::Number(0.5)])).unwrap(), [2.0, 0.5]);
        for (value, expected) in [
            (Value::List(vec![]), "is an empty list"),
            (Value::List(vec![Value::Integer(11)]), "allowed is 0 to 10"),
            (Value::List(vec![Value::List(vec![])]), "is a number"),
            (Value::Flag(true), "is a number"),
        ] {
            let error = minutes(value).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let known = Tea::parameters();
        assert_eq!(with_defaults(&known, Params::new()).len(), 1, "what has no default stays absent");
    }
}
