//! Reads values by name and remembers what was wrong, so that a person mends everything in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} in the settings:", if self.0.len() == 1 { "a mistake" } else { "mistakes" })?;
        for error in &self.0 {
            writeln!(f, "  {error}")?;
        }
        Ok(())
    }
}

/// Settings by name, from a file and the environment.
#[derive(Debug, Default)]
pub struct Vars {
    values: BTreeMap<String, String>,
    from_file: BTreeSet<String>,
    used: BTreeMap<String, Shown>,
    errors: Vec<String>,
}

#[derive(Debug, Clone)]
enum Shown {
    Value(String),
    Secret,
    Default(String),
    Unset,
}

const PREFIX: &str = "REELMILL_";

impl Vars {
    /// Reads `file`, if there is one, and the `REELMILL_*` variables of the environment.
    pub fn load(file: Option<&Path>) -> Self {
        let mut vars = Self::default();
        let mut environment = vec![];
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            match value.into_string() {
                Ok(value) if value.is_empty() => {}
                Ok(value) => environment.push((name.to_owned(), value)),
                Err(_) => vars.errors.push(format!("{name}: is not UTF-8")),
            }
        }
        if let Some(path) = file {
            vars.read_file(path);
        }
        vars.values.extend(environment);
        vars
    }

    /// Settings from a list: for tests and for `reelmill dev`.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, ..Self::default() }
    }

    /// The same with more settings, which beat those that are there.
    pub fn with_pairs<N: Into<String>, V: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.values.extend(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    fn read_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.errors.push(format!("{}: {error}", path.display())),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.flatten(PREFIX.trim_end_matches('_'), &table),
            Err(error) => self.errors.push(format!("{}: {}", path.display(), error.message())),
        }
    }

    fn flatten(&mut self, prefix: &str, table: &toml::Table) {
        for (key, value) in table {
            let name = format!("{prefix}_{}", key.to_ascii_uppercase());
            let text = match value {
                toml::Value::Table(inner) => {
                    self.flatten(&name, inner);
                    continue;
                }
                toml::Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
                other => scalar(other),
            };
            self.from_file.insert(name.clone());
            self.values.insert(name, text);
        }
    }

    /// A value that may be shown.
    pub fn value<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Setting<'_, T> {
        self.read(name, false)
    }

    /// A value that is never shown.
    pub fn secret(&mut self, name: &'static str) -> Setting<'_, String> {
        self.read(name, true)
    }

    /// A comma-separated list; empty where it is not set.
    pub fn list(&mut self, name: &'static str) -> Vec<String> {
        let text = self.value::<String>(name).or(String::new());
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    fn read<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str, secret: bool) -> Setting<'_, T> {
        let text = self.values.get(name).cloned();
        let shown = match &text {
            None => Shown::Unset,
            Some(_) if secret => Shown::Secret,
            Some(text) => Shown::Value(text.clone()),
        };
        self.used.insert(name.to_owned(), shown);
        let value = text.and_then(|text| match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                // The value itself may be a secret in the wrong place: say what is wrong, not what it is.
                let error: <T as FromStr>::Err = error;
                self.errors.push(format!("{name}: {error}"));
                None
            }
        });
        Setting { vars: self, name, value }
    }

    /// Notes a mistake found by a check of one's own.
    pub fn fault(&mut self, name: &str, message: impl fmt::Display) {
        self.errors.push(format!("{name}: {message}"));
    }

    /// All mistakes, those of names in the file that nobody reads among them.
    pub fn finish(mut self) -> Result<Effective, ConfigErrors> {
        for name in &self.from_file {
            if !self.used.contains_key(name) {
                let key = name.trim_start_matches(PREFIX).to_ascii_lowercase();
                self.errors.push(format!("the file sets {key}, which is no setting of this program"));
            }
        }
        self.errors.sort();
        self.errors.dedup();
        if self.errors.is_empty() { Ok(Effective(self.used)) } else { Err(ConfigErrors(self.errors)) }
    }
}

fn scalar(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        // Lists of lists and of tables mean nothing here; the parser of the setting says so.
        toml::Value::Array(_) | toml::Value::Table(_) => "a nested list".to_owned(),
    }
}

/// A setting on its way from text to value.
pub struct Setting<'v, T> {
    vars: &'v mut Vars,
    name: &'static str,
    value: Option<T>,
}

impl<T> Setting<'_, T> {
    /// The value if it is set.
    pub fn optional(self) -> Option<T> {
        self.value
    }

    /// The value; a mistake where it is not set. Reading goes on with a stand-in.
    pub fn required_or_else(self, stand_in: impl FnOnce() -> T) -> T {
        let Self { vars, name, value } = self;
        value.unwrap_or_else(|| {
            if !vars.errors.iter().any(|error| error.starts_with(name)) {
                vars.errors.push(format!("{name} is not set"));
            }
            stand_in()
        })
    }
}

impl<T: fmt::Display> Setting<'_, T> {
    /// The value or a default.
    pub fn or(self, default: T) -> T {
        self.value.unwrap_or_else(|| {
            let text = default.to_string();
            let shown = if text.is_empty() { Shown::Unset } else { Shown::Default(text) };
            self.vars.used.insert(self.name.to_owned(), shown);
            default
        })
    }
}

impl<T: Default> Setting<'_, T> {
    /// The value; a mistake where it is not set.
    pub fn required(self) -> T {
        self.required_or_else(T::default)
    }
}

/// The settings as they took effect, secrets hidden, defaults as comments.
#[derive(Debug)]
pub struct Effective(BTreeMap<String, Shown>);

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, shown) in &self.0 {
            match shown {
                Shown::Value(value) => writeln!(f, "{name}={value}")?,
                Shown::Secret => writeln!(f, "{name}=<secret>")?,
                Shown::Default(value) => writeln!(f, "# {name}={value}")?,
                Shown::Unset => writeln!(f, "# {name} is not set")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("reelmill.toml");
        std::fs::write(&file, "[worker]\nslots = \"many\"\nspeed = 9\n[database]\npool_size = 3\n").unwrap();
        let mut vars = Vars::default();
        vars.read_file(&file);
        assert_eq!(vars.value::<u32>("REELMILL_WORKER_SLOTS").or(7), 7);
        assert_eq!(vars.value::<u32>("REELMILL_DATABASE_POOL_SIZE").or(16), 3);
        assert_eq!(vars.secret("REELMILL_DATABASE_URL").required(), "");
        let errors = vars.finish().unwrap_err().0;
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors.iter().any(|e| e.contains("worker_speed")), "{errors:?}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut vars = Vars::from_pairs([("REELMILL_SECRET_KEY", "hunter2"), ("REELMILL_AMQP_PREFIX", "x")]);
        let _ = vars.secret("REELMILL_SECRET_KEY").required();
        let _ = vars.value::<String>("REELMILL_AMQP_PREFIX").or(String::new());
        let shown = vars.finish().unwrap().to_string();
        assert!(!shown.contains("hunter2") && shown.contains("REELMILL_AMQP_PREFIX=x"), "{shown}");
    }

    #[test]
    fn defaults_are_shown_as_comments() {
        let mut vars = Vars::from_pairs([("REELMILL_WORKER_NAME", "w")]);
        assert_eq!(vars.value::<u32>("REELMILL_WORKER_SLOTS").or(7), 7);
        let _ = vars.value::<String>("REELMILL_WORKER_NAME").optional();
        let _ = vars.value::<String>("REELMILL_PUBLIC_URL").optional();
        assert_eq!(vars.list("REELMILL_ALLOWED_HOSTS"), Vec::<String>::new());
        assert_eq!(
            vars.finish().unwrap().to_string(),
            "# REELMILL_ALLOWED_HOSTS is not set\n# REELMILL_PUBLIC_URL is not set\nREELMILL_WORKER_NAME=w\n\
             # REELMILL_WORKER_SLOTS=7\n"
        );
    }
}
