//! Whether a server's complaint means that it takes no JSON Schema at all.
//!
//! Servers without structured outputs say so in a 400 (or 422), each in its own words, and name the
//! parameter. A complaint about the schema itself is another matter: then words would hide a mistake.

/// Says whether the message refuses structured outputs as such.
pub fn refuses_schemas(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let names = ["response_format", "json_schema", "structured output", "text.format"];
    names.iter().any(|name| message.contains(name)) && !message.contains("invalid schema")
}

#[cfg(test)]
mod tests {
    use super::refuses_schemas;

    #[test]
    fn a_server_without_structured_outputs_is_told_from_a_bad_schema() {
        for message in [
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            "This response_format type is unavailable now",
            "structured outputs are not supported by this backend",
            "Unrecognized request argument supplied: response_format",
            "[{'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or 'json_object'\"}]",
        ] {
            assert!(refuses_schemas(message), "{message}");
        }
        for message in [
            "Invalid schema for response_format 'answer': 'additionalProperties' is required",
            "Unsupported value: 'temperature' does not support 0 with this model.",
        ] {
            assert!(!refuses_schemas(message), "{message}");
        }
    }
}
