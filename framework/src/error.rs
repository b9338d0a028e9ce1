//! The one error type of the framework: what went wrong, where, and how to mend it.

use std::path::{Path, PathBuf};

use tch::{TchError, Tensor};

use crate::spec::Report;

/// Result of a framework operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between a file on disk and an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{path}: {reason}")]
    Io {
        /// File or folder of the operation.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A file exists but its content cannot be used.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and how to mend it.
        problem: String,
    },
    /// Several things are wrong with a model folder; all of them are listed.
    #[error("{path}: {}", problems.join("\n  "))]
    Weights {
        /// The model folder.
        path: PathBuf,
        /// One line per problem.
        problems: Vec<String>,
    },
    /// A libtorch operation failed.
    #[error("{operation} of {shapes} failed: {message}")]
    Torch {
        /// What was being computed.
        operation: &'static str,
        /// Shapes and dtypes of the operands.
        shapes: String,
        /// First line of libtorch's message.
        message: String,
    },
    /// A press could not decide, or decided something that cannot be done.
    #[error("press `{press}`, layer {layer}: {problem}")]
    Press {
        /// Name of the press.
        press: String,
        /// Layer index, from 0.
        layer: usize,
        /// What is wrong.
        problem: String,
    },
    /// A press always keeps so much of a context that nothing would be left to choose from.
    #[error(
        "the context has {tokens} tokens and {param} = {reserved} of them are always kept; \
         use a longer context or a smaller {param}"
    )]
    TooShort {
        /// Tokens of the context.
        tokens: i64,
        /// The parameter that keeps them.
        param: &'static str,
        /// How many it keeps.
        reserved: usize,
    },
    /// The request itself makes no sense (empty context, unknown device, ratio out of range).
    #[error("{0}")]
    Input(String),
    /// A TOML file has mistakes: the report of all of them, which can also be rendered in colour.
    #[error("{0}")]
    Spec(Report),
}

impl Error {
    /// An [`Error::File`].
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// Wraps an I/O error with its path, for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |reason| Self::Io { path, reason }
    }

    /// An [`Error::Input`].
    pub fn input(problem: impl Into<String>) -> Self {
        Self::Input(problem.into())
    }
}

/// Adds to a libtorch error what was computed and on which shapes.
pub trait During<T> {
    /// `operands` are shown with their shapes and dtypes.
    fn during(self, operation: &'static str, operands: &[&Tensor]) -> Result<T>;
}

impl<T> During<T> for std::result::Result<T, TchError> {
    fn during(self, operation: &'static str, operands: &[&Tensor]) -> Result<T> {
        self.map_err(|error| {
            let shapes: Vec<String> =
                operands.iter().map(|operand| format!("{:?} {:?}", operand.size(), operand.kind())).collect();
            Error::Torch { operation, shapes: shapes.join(" with "), message: first_line(&error) }
        })
    }
}

impl From<TchError> for Error {
    fn from(error: TchError) -> Self {
        Self::Torch { operation: "a tensor operation", shapes: "tensors".into(), message: first_line(&error) }
    }
}

/// libtorch appends a C++ backtrace to its messages; the first line says what is wrong.
fn first_line(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().trim().to_owned()
}
