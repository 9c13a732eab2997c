//! What a refusal says about the message that is being written.

use crate::client::ClientError;

/// Returns the position where the server wants the text to continue, if a conflict names one.
pub(super) fn conflict_offset(error: &ClientError) -> Option<u64> {
    let ClientError::Refused { code, data, .. } = error else {
        return None;
    };
    let data = data.as_ref().filter(|_| code == "CONFLICT")?;
    data.pointer("/details/offset")?.as_u64()
}

/// Returns whether the message is no longer being written.
pub(super) fn has_ended(error: &ClientError) -> bool {
    let ClientError::Refused { code, .. } = error else {
        return false;
    };
    code == "NOT_FOUND" || (code == "CONFLICT" && conflict_offset(error).is_none())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(code: &str, data: Value) -> ClientError {
        ClientError::Refused {
            code: code.into(),
            message: String::new(),
            data: Some(data),
        }
    }

    #[test]
    fn conflicts_without_a_position_mean_that_the_message_has_ended() {
        let moved = refused("CONFLICT", json!({"details": {"offset": 7}}));
        assert_eq!(
            (conflict_offset(&moved), has_ended(&moved)),
            (Some(7), false)
        );
        for details in [json!({}), json!({"details": {"offset": -1}})] {
            let ended = refused("CONFLICT", details);
            assert_eq!((conflict_offset(&ended), has_ended(&ended)), (None, true));
        }
        assert!(has_ended(&refused("NOT_FOUND", json!({}))));
        assert!(!has_ended(&ClientError::Full));
    }
}
