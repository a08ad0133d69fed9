//! Why there is no configuration, in sentences for people.

use std::fmt;

use super::Setting;

/// Where a value was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the environment.
    Environment,
    /// On the command line.
    Flag,
}

/// Why there is no configuration; displays as one sentence for people, which never holds the
/// callback URL or a part of it. Exit code 2.
#[derive(Clone, Debug)]
pub enum ConfigError {
    /// A value that the setting does not allow.
    Invalid {
        /// Whose value it is.
        setting: &'static Setting,
        /// Where it was given.
        source: Source,
        /// The value, escaped; `None` for one that is never shown.
        value: Option<String>,
        /// What is allowed.
        allowed: String,
    },
    /// A flag that is no setting's; `None` when it cannot be shown, as it could hold a value.
    UnknownFlag(Option<String>),
    /// A flag of this name without a value behind it.
    MissingValue(String),
    /// A flag of this name that takes no value has one.
    UnexpectedValue(&'static str),
    /// A flag of this name given twice.
    Repeated(String),
    /// Two settings of which one must not be given.
    Conflict(&'static str, &'static str),
    /// An argument that belongs to no flag. It is not kept: it could be a callback URL.
    StrayArgument,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Invalid {
                setting,
                source,
                value,
                allowed,
            } => {
                let (name, flag) = (setting.name, setting.flag());
                match source {
                    Source::Environment => {
                        write!(f, "environment variable {name} (or flag --{flag})")?;
                    }
                    Source::Flag => write!(f, "flag --{flag} (or environment variable {name})")?,
                }
                match value {
                    Some(value) => write!(f, " is {value}")?,
                    None => f.write_str(
                        " has a value that cannot be used (not shown, it may hold a secret)",
                    )?,
                }
                write!(f, ", but must be {allowed}")
            }
            ConfigError::UnknownFlag(Some(flag)) => {
                write!(f, "there is no flag {flag}; --help lists all flags")
            }
            ConfigError::UnknownFlag(None) => {
                f.write_str("there is a flag that is unknown; --help lists all flags")
            }
            ConfigError::MissingValue(flag) => write!(
                f,
                "flag --{flag} has no value; give one as --{flag} VALUE or --{flag}=VALUE"
            ),
            ConfigError::UnexpectedValue(flag) => {
                write!(f, "flag --{flag} takes no value; leave it out")
            }
            ConfigError::Repeated(flag) => {
                write!(f, "flag --{flag} is given more than once; give it once")
            }
            ConfigError::Conflict(one, other) => write!(
                f,
                "both {one} and {other} are set, but one of them says it all; unset {one} or {other}"
            ),
            ConfigError::StrayArgument => f.write_str(
                "there is an argument that belongs to no flag; settings are given as --flag VALUE \
                 or --flag=VALUE, and --help lists them",
            ),
        }
    }
}
