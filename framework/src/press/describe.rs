//! Descriptions of presses, as data: one source for TOML errors, `press show`, the documentation and the identity of
//! a configured press.

use std::fmt;

use serde::Serialize;

use super::params::{ParamInfo, Params, check_params};
use super::{Built, Method};
use crate::error::Result;

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
        check_params(&format!("press `{}`", self.name), &self.params, params)
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
        $crate::parameters! {
            $(#[doc = $doc])+
            "press" $name $type {
                $( $(#[doc = $param_doc])+ $param : $param_type = $default, $range; )*
            }
        }

        #[allow(dead_code, unused_variables)]
        impl $type {
            /// Description of the press and its parameters.
            pub fn info() -> $crate::press::PressInfo {
                $crate::press::PressInfo {
                    name: $name.into(),
                    kind: $crate::press::Kind::$kind,
                    doc: $crate::press::dedent(&[$($doc),+]),
                    params: Self::parameters(),
                    wraps: vec![$($( $crate::press::Wraps {
                        key: stringify!($inner),
                        kind: $crate::press::Kind::$inner_kind,
                    } ),+)?],
                    budgeting: [$($crate::press::Budgeting::$budgeting)?].first().copied().unwrap_or_default(),
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::press::{Range, Value};

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
