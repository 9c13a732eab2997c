//! Macros that generate option structs: fields, defaults and setters from one table.

/// Defines an option struct with its defaults, its form in files and a setter for each field.
///
/// A setter takes the field's type, or `$arg`, which `$by` converts to the field's type. The setter
/// of a `bool` has the name `$flag` and takes no argument: it sets `$set`, the opposite of the
/// default.
macro_rules! options {
    (
        $(#[$outer:meta])*
        $Name:ident {
            $(
                $(#[$inner:meta])*
                $field:ident: $type:ty $(, as $arg:ty, by $by:path)? = $default:expr $(, $flag:ident: $set:literal)?;
            )*
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $Name {
            $($(#[$inner])* pub $field: $type,)*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $Name {
            $($crate::config::options::setter! {
                concat!("[`", stringify!($field), "`](field@Self::", stringify!($field), ")");
                $field; $field: $type $(, as $arg, by $by)? $(, $flag: $set)?
            })*
        }
    };
}

/// Defines the options of an `Io`: one struct per group, and [`Config`](crate::Config), which
/// contains all groups and has a setter for each option. The form in files is flat.
macro_rules! groups {
    ($(
        $(#[$outer:meta])*
        $group:ident: $Group:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $type:ty $(, as $arg:ty, by $by:path)? = $default:expr $(, $flag:ident: $set:literal)?;
            )*
        }
    )*) => {
        $(
            $(#[$outer])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $Group {
                $($(#[doc = $doc])* pub $field: $type,)*
            }

            impl Default for $Group {
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }
        )*

        impl Config {
            $($($crate::config::options::setter! {
                concat!("[`", stringify!($Group), "::", stringify!($field), "`]");
                $group.$field; $field: $type $(, as $arg, by $by)? $(, $flag: $set)?
            })*)*
        }

        /// The flat form of [`Config`] in files.
        #[derive(Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Flat {
            $($($(#[serde($($serde)*)])? $field: $type,)*)*
        }

        impl Default for Flat {
            fn default() -> Self {
                Config::default().into()
            }
        }

        impl From<Flat> for Config {
            fn from(flat: Flat) -> Self {
                Self {
                    $($group: $Group { $($field: flat.$field,)* },)*
                    recovery: None,
                }
            }
        }

        impl From<Config> for Flat {
            fn from(config: Config) -> Self {
                Self { $($($field: config.$group.$field,)*)* }
            }
        }
    };
}

/// Defines the setter of the field at `$place`; `$link` is its link in the documentation.
macro_rules! setter {
    ($link:expr; $($place:ident).+; $field:ident: $type:ty, $flag:ident: $set:literal) => {
        #[doc = concat!("Sets ", $link, " to `", stringify!($set), "`.")]
        #[must_use]
        pub fn $flag(mut self) -> Self {
            self.$($place).+ = $set;
            self
        }
    };
    ($link:expr; $($place:ident).+; $field:ident: $type:ty) => {
        $crate::config::options::setter! { $link; $($place).+; $field: $type, as $type, by From::from }
    };
    ($link:expr; $($place:ident).+; $field:ident: $type:ty, as $arg:ty, by $by:path) => {
        #[doc = concat!("Sets ", $link, ".")]
        #[must_use]
        pub fn $field(mut self, value: $arg) -> Self {
            self.$($place).+ = $by(value);
            self
        }
    };
}

pub(super) use {groups, options, setter};

/// Converts the argument of a setter whose field is a list of strings.
pub(super) fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

/// Converts the argument of a setter whose field is an optional list of strings.
pub(super) fn some_texts(
    values: impl IntoIterator<Item = impl Into<String>>,
) -> Option<Vec<String>> {
    Some(texts(values))
}

/// Converts the argument of a setter whose field is an optional string.
pub(super) fn some_text(value: impl Into<String>) -> Option<String> {
    Some(value.into())
}
