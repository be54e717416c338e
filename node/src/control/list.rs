//! Lists come in pages.

use super::Refusal;
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows of a page unless asked otherwise.
pub const DEFAULT_LIMIT: usize = 50;
/// Most rows of a page.
pub const MAX_LIMIT: usize = 500;

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
	/// Rows, from 1 to [`MAX_LIMIT`].
	pub limit: usize,
	/// [`Page::next`] of the page before, `None` for the first.
	pub cursor: Option<String>,
}

impl Default for ListRequest {
	fn default() -> Self {
		ListRequest { limit: DEFAULT_LIMIT, cursor: None }
	}
}

impl ListRequest {
	/// Refuses a cursor that no page of this list ever ended with, as `fits` tells. (The row itself may be gone.)
	///
	/// # Errors
	/// 400.
	pub fn check(&self, fits: impl Fn(&str) -> bool) -> Result<(), Refusal> {
		match self.cursor.as_deref().filter(|cursor| !fits(cursor)) {
			Some(cursor) => Err(Refusal::invalid(
				"bad_cursor",
				format!("{cursor} is not a cursor of this list"),
				"take `next` of the page before",
			)),
			None => Ok(()),
		}
	}
}

/// Is this a whole id of `digits` hexadecimal digits?
pub fn is_hex(text: &str, digits: usize) -> bool {
	text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Is this a time of 20 digits, a dash and an id?
pub fn is_time_and_id(text: &str) -> bool {
	text.split_once('-')
		.is_some_and(|(time, id)| time.len() == 20 && time.bytes().all(|b| b.is_ascii_digit()) && !id.is_empty())
}

/// A thing that is listed.
pub trait Listed {
	/// The plural noun under which the API lists it.
	const NOUN: &'static str;
}

/// One page. In JSON `{"<noun>": [..], "next": ..}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
	/// The rows.
	pub items: Vec<T>,
	/// The cursor of the page that follows, `None` if this is the last.
	pub next: Option<String>,
}

impl<T> Page<T> {
	/// The page that `list` asks for, of all `rows`, ordered by `key` (smallest first). The cursor is the key of the last row of
	/// the page before, so that rows which come or go in between neither repeat nor hide others. Keys must be unique.
	pub fn ascending(rows: impl IntoIterator<Item = T>, list: &ListRequest, key: impl Fn(&T) -> String) -> Page<T> {
		let after = |k: &String| list.cursor.as_ref().is_none_or(|cursor| k > cursor);
		let mut rows: Vec<(String, T)> =
			rows.into_iter().map(|row| (key(&row), row)).filter(|(k, _)| after(k)).collect();
		rows.sort_by(|a, b| a.0.cmp(&b.0));
		Page::cut(rows, list.limit)
	}

	/// Like [`ascending`](Page::ascending), largest key first.
	pub fn descending(rows: impl IntoIterator<Item = T>, list: &ListRequest, key: impl Fn(&T) -> String) -> Page<T> {
		let after = |k: &String| list.cursor.as_ref().is_none_or(|cursor| k < cursor);
		let mut rows: Vec<(String, T)> =
			rows.into_iter().map(|row| (key(&row), row)).filter(|(k, _)| after(k)).collect();
		rows.sort_by(|a, b| b.0.cmp(&a.0));
		Page::cut(rows, list.limit)
	}

	fn cut(rows: Vec<(String, T)>, limit: usize) -> Page<T> {
		let limit = limit.clamp(1, MAX_LIMIT);
		let next = if rows.len() > limit { Some(rows[limit - 1].0.clone()) } else { None };
		Page { items: rows.into_iter().take(limit).map(|(_, row)| row).collect(), next }
	}
}

impl<T: Serialize + Listed> Serialize for Page<T> {
	fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
		let mut map = to.serialize_map(Some(2))?;
		map.serialize_entry(T::NOUN, &self.items)?;
		map.serialize_entry("next", &self.next)?;
		map.end()
	}
}

impl<'de, T: serde::de::DeserializeOwned + Listed> Deserialize<'de> for Page<T> {
	fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Page<T>, D::Error> {
		let mut map = serde_json::Map::deserialize(from)?;
		let items = map.remove(T::NOUN).ok_or_else(|| D::Error::missing_field(T::NOUN))?;
		let next = map.remove("next").unwrap_or_default();
		Ok(Page {
			items: serde_json::from_value(items).map_err(D::Error::custom)?,
			next: serde_json::from_value(next).map_err(D::Error::custom)?,
		})
	}
}

/// The one of `rows` whose id is `wanted` or, if there is only one such, begins with it. `noun` is its plural, as in `orders`.
pub fn pick<T>(noun: &str, wanted: &str, rows: impl IntoIterator<Item = (String, T)>) -> Result<T, Refusal> {
	let hint = format!("inlet {noun} list shows them");
	if wanted.is_empty() {
		return Err(Refusal::invalid("empty_id", format!("an empty id fits all {noun}"), hint));
	}
	let mut found = None;
	let mut others = 0_usize;
	for (id, row) in rows {
		if id == wanted {
			return Ok(row);
		}
		if id.starts_with(wanted) {
			others += usize::from(found.is_some());
			found = Some(row);
		}
	}
	match found {
		Some(row) if others == 0 => Ok(row),
		Some(_) => Err(Refusal::conflict(
			"ambiguous_id",
			format!("{} of the {noun} have an id that begins with {wanted}", others + 1),
			format!("give more characters; {hint}"),
		)),
		None => Err(Refusal::not_found(format!("none of the {noun} has an id that begins with {wanted}"), hint)),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn page(rows: std::ops::Range<u32>, limit: usize, cursor: Option<&str>) -> (Vec<u32>, Option<String>) {
		let list = ListRequest { limit, cursor: cursor.map(str::to_owned) };
		let page = Page::descending(rows, &list, |n| format!("{n:05}"));
		(page.items, page.next)
	}

	#[test]
	fn pages_follow_each_other_and_the_last_says_so() {
		assert_eq!(page(0..5, 2, None), (vec![4, 3], Some("00003".into())));
		assert_eq!(page(0..5, 2, Some("00003")), (vec![2, 1], Some("00001".into())));
		assert_eq!(page(0..5, 2, Some("00001")), (vec![0], None));
		assert_eq!(page(0..5, 5, None), (vec![4, 3, 2, 1, 0], None));
	}

	#[test]
	fn a_new_row_does_not_shift_the_next_page() {
		assert_eq!(page(0..9, 2, Some("00003")), (vec![2, 1], Some("00001".into())));
	}

	#[test]
	fn prefixes_must_fit_one() {
		let rows = || [("abc", 1), ("abd", 2), ("ab", 3), ("x", 4)].map(|(id, n)| (id.to_owned(), n));
		assert_eq!(pick("orders", "abc", rows()), Ok(1));
		assert_eq!(pick("orders", "ab", rows()), Ok(3), "a whole id wins over what it is a prefix of");
		assert_eq!(pick("orders", "x", rows()), Ok(4));
		assert_eq!(pick("orders", "a", rows()).unwrap_err().code, "ambiguous_id");
		assert_eq!(pick("orders", "z", rows()).unwrap_err().status, 404);
		assert_eq!(pick("orders", "", rows()).unwrap_err().status, 400);
	}
}
