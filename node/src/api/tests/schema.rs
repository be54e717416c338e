//! Holds a value against a schema of the document: as much of JSON Schema as the document uses.

use serde_json::Value;

/// What is wrong with `value`, if anything. Unlike JSON Schema, fields that the schema does not name are wrong, too.
pub(super) fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
	if let Some(reference) = schema["$ref"].as_str() {
		let schema = document.pointer(reference.trim_start_matches('#')).ok_or(format!("{at}: no {reference}"))?;
		return check(document, schema, value, at);
	}
	if let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
		let wrong: Vec<String> = choices.iter().filter_map(|choice| check(document, choice, value, at).err()).collect();
		return if wrong.len() < choices.len() { Ok(()) } else { Err(wrong.join("; or ")) };
	}
	if let Some(constant) = schema.get("const") {
		return if constant == value { Ok(()) } else { Err(format!("{at}: {value} is not {constant}")) };
	}
	if let Some(values) = schema["enum"].as_array() {
		return if values.contains(value) { Ok(()) } else { Err(format!("{at}: {value} is not among {values:?}")) };
	}
	let kind = match value {
		Value::Null => "null",
		Value::Bool(_) => "boolean",
		Value::Number(number) if number.is_f64() => "number",
		Value::Number(_) => "integer",
		Value::String(_) => "string",
		Value::Array(_) => "array",
		Value::Object(_) => "object",
	};
	let fits = match &schema["type"] {
		Value::String(one) => one == kind,
		Value::Array(some) => some.iter().any(|one| one == kind),
		_ => return Err(format!("{at}: the schema has no type")),
	};
	if !fits {
		return Err(format!("{at}: {value} is not {}", schema["type"]));
	}
	if let Value::Array(items) = value {
		for (n, item) in items.iter().enumerate() {
			check(document, &schema["items"], item, &format!("{at}[{n}]"))?;
		}
	}
	if let (Value::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) {
		for (name, field) in fields {
			let property = properties.get(name).ok_or(format!("{at}: {name} is not in the schema"))?;
			check(document, property, field, &format!("{at}.{name}"))?;
		}
		for name in schema["required"].as_array().into_iter().flatten() {
			fields.get(name.as_str().unwrap_or_default()).ok_or(format!("{at}: {name} is missing"))?;
		}
	}
	Ok(())
}

#[test]
fn finds_what_is_wrong() {
	let schema = serde_json::json!({
		"type": "object",
		"properties": { "a": { "type": ["string", "null"] }, "b": { "type": "array", "items": { "type": "integer" } } },
		"required": ["a"],
	});
	let wrong = |text: &str| check(&Value::Null, &schema, &serde_json::from_str(text).unwrap(), "x").unwrap_err();
	assert_eq!(wrong("{\"b\":[]}"), "x: \"a\" is missing");
	assert_eq!(wrong("{\"a\":null,\"c\":1}"), "x: c is not in the schema");
	assert_eq!(wrong("{\"a\":\"\",\"b\":[1,\"2\"]}"), "x.b[1]: \"2\" is not \"integer\"");
	assert_eq!(wrong("[]"), "x: [] is not \"object\"");
}
