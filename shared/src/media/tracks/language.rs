//! Languages as files and playlists name them.

/// Two letters (ISO 639-1), three letters (ISO 639-2/T), and the older three (ISO 639-2/B) where they differ, with the English name.
#[rustfmt::skip]
const LANGUAGES: [(&str, &str, &str, &str); 158] = [
    ("aa", "aar", "aar", "Afar"), ("ab", "abk", "abk", "Abkhazian"), ("af", "afr", "afr", "Afrikaans"), ("am", "amh", "amh", "Amharic"),
    ("an", "arg", "arg", "Aragonese"), ("ar", "ara", "ara", "Arabic"), ("as", "asm", "asm", "Assamese"), ("ay", "aym", "aym", "Aymara"),
    ("az", "aze", "aze", "Azerbaijani"), ("ba", "bak", "bak", "Bashkir"), ("be", "bel", "bel", "Belarusian"),
    ("bg", "bul", "bul", "Bulgarian"), ("bm", "bam", "bam", "Bambara"), ("bn", "ben", "ben", "Bangla"), ("bo", "bod", "tib", "Tibetan"),
    ("br", "bre", "bre", "Breton"), ("bs", "bos", "bos", "Bosnian"), ("ca", "cat", "cat", "Catalan"), ("ce", "che", "che", "Chechen"),
    ("co", "cos", "cos", "Corsican"), ("cs", "ces", "cze", "Czech"), ("cv", "chv", "chv", "Chuvash"), ("cy", "cym", "wel", "Welsh"),
    ("da", "dan", "dan", "Danish"), ("de", "deu", "ger", "German"), ("dv", "div", "div", "Dhivehi"), ("dz", "dzo", "dzo", "Dzongkha"),
    ("ee", "ewe", "ewe", "Ewe"), ("el", "ell", "gre", "Greek"), ("en", "eng", "eng", "English"), ("eo", "epo", "epo", "Esperanto"),
    ("es", "spa", "spa", "Spanish"), ("et", "est", "est", "Estonian"), ("eu", "eus", "baq", "Basque"), ("fa", "fas", "per", "Persian"),
    ("ff", "ful", "ful", "Fulah"), ("fi", "fin", "fin", "Finnish"), ("fj", "fij", "fij", "Fijian"), ("fo", "fao", "fao", "Faroese"),
    ("fr", "fra", "fre", "French"), ("fy", "fry", "fry", "Western Frisian"), ("ga", "gle", "gle", "Irish"),
    ("gd", "gla", "gla", "Scottish Gaelic"), ("gl", "glg", "glg", "Galician"), ("gn", "grn", "grn", "Guarani"),
    ("gu", "guj", "guj", "Gujarati"), ("gv", "glv", "glv", "Manx"), ("ha", "hau", "hau", "Hausa"), ("he", "heb", "heb", "Hebrew"),
    ("hi", "hin", "hin", "Hindi"), ("hr", "hrv", "hrv", "Croatian"), ("ht", "hat", "hat", "Haitian Creole"),
    ("hu", "hun", "hun", "Hungarian"), ("hy", "hye", "arm", "Armenian"), ("ia", "ina", "ina", "Interlingua"),
    ("id", "ind", "ind", "Indonesian"), ("ig", "ibo", "ibo", "Igbo"), ("is", "isl", "ice", "Icelandic"),
    ("it", "ita", "ita", "Italian"), ("iu", "iku", "iku", "Inuktitut"), ("ja", "jpn", "jpn", "Japanese"),
    ("jv", "jav", "jav", "Javanese"), ("ka", "kat", "geo", "Georgian"), ("kg", "kon", "kon", "Kongo"), ("ki", "kik", "kik", "Kikuyu"),
    ("kk", "kaz", "kaz", "Kazakh"), ("kl", "kal", "kal", "Kalaallisut"), ("km", "khm", "khm", "Khmer"), ("kn", "kan", "kan", "Kannada"),
    ("ko", "kor", "kor", "Korean"), ("ks", "kas", "kas", "Kashmiri"), ("ku", "kur", "kur", "Kurdish"), ("kw", "cor", "cor", "Cornish"),
    ("ky", "kir", "kir", "Kyrgyz"), ("la", "lat", "lat", "Latin"), ("lb", "ltz", "ltz", "Luxembourgish"), ("lg", "lug", "lug", "Ganda"),
    ("li", "lim", "lim", "Limburgish"), ("ln", "lin", "lin", "Lingala"), ("lo", "lao", "lao", "Lao"),
    ("lt", "lit", "lit", "Lithuanian"), ("lv", "lav", "lav", "Latvian"), ("mg", "mlg", "mlg", "Malagasy"),
    ("mi", "mri", "mao", "Māori"), ("mk", "mkd", "mac", "Macedonian"), ("ml", "mal", "mal", "Malayalam"),
    ("mn", "mon", "mon", "Mongolian"), ("mr", "mar", "mar", "Marathi"), ("ms", "msa", "may", "Malay"), ("mt", "mlt", "mlt", "Maltese"),
    ("my", "mya", "bur", "Burmese"), ("nb", "nob", "nob", "Norwegian Bokmål"), ("nd", "nde", "nde", "North Ndebele"),
    ("ne", "nep", "nep", "Nepali"), ("nl", "nld", "dut", "Dutch"), ("nn", "nno", "nno", "Norwegian Nynorsk"),
    ("no", "nor", "nor", "Norwegian"), ("nv", "nav", "nav", "Navajo"), ("ny", "nya", "nya", "Nyanja"), ("oc", "oci", "oci", "Occitan"),
    ("om", "orm", "orm", "Oromo"), ("or", "ori", "ori", "Odia"), ("os", "oss", "oss", "Ossetic"), ("pa", "pan", "pan", "Punjabi"),
    ("pl", "pol", "pol", "Polish"), ("ps", "pus", "pus", "Pashto"), ("pt", "por", "por", "Portuguese"), ("qu", "que", "que", "Quechua"),
    ("rm", "roh", "roh", "Romansh"), ("rn", "run", "run", "Rundi"), ("ro", "ron", "rum", "Romanian"), ("ru", "rus", "rus", "Russian"),
    ("rw", "kin", "kin", "Kinyarwanda"), ("sa", "san", "san", "Sanskrit"), ("sc", "srd", "srd", "Sardinian"),
    ("sd", "snd", "snd", "Sindhi"), ("se", "sme", "sme", "Northern Sami"), ("sg", "sag", "sag", "Sango"),
    ("si", "sin", "sin", "Sinhala"), ("sk", "slk", "slo", "Slovak"), ("sl", "slv", "slv", "Slovenian"), ("sm", "smo", "smo", "Samoan"),
    ("sn", "sna", "sna", "Shona"), ("so", "som", "som", "Somali"), ("sq", "sqi", "alb", "Albanian"), ("sr", "srp", "srp", "Serbian"),
    ("ss", "ssw", "ssw", "Swati"), ("st", "sot", "sot", "Southern Sotho"), ("su", "sun", "sun", "Sundanese"),
    ("sv", "swe", "swe", "Swedish"), ("sw", "swa", "swa", "Swahili"), ("ta", "tam", "tam", "Tamil"), ("te", "tel", "tel", "Telugu"),
    ("tg", "tgk", "tgk", "Tajik"), ("th", "tha", "tha", "Thai"), ("ti", "tir", "tir", "Tigrinya"), ("tk", "tuk", "tuk", "Turkmen"),
    ("tl", "tgl", "tgl", "Tagalog"), ("tn", "tsn", "tsn", "Tswana"), ("to", "ton", "ton", "Tongan"), ("tr", "tur", "tur", "Turkish"),
    ("ts", "tso", "tso", "Tsonga"), ("tt", "tat", "tat", "Tatar"), ("ug", "uig", "uig", "Uyghur"), ("uk", "ukr", "ukr", "Ukrainian"),
    ("ur", "urd", "urd", "Urdu"), ("uz", "uzb", "uzb", "Uzbek"), ("ve", "ven", "ven", "Venda"), ("vi", "vie", "vie", "Vietnamese"),
    ("vo", "vol", "vol", "Volapük"), ("wa", "wln", "wln", "Walloon"), ("wo", "wol", "wol", "Wolof"), ("xh", "xho", "xho", "Xhosa"),
    ("yi", "yid", "yid", "Yiddish"), ("yo", "yor", "yor", "Yoruba"), ("za", "zha", "zha", "Zhuang"), ("zh", "zho", "chi", "Chinese"),
    ("zu", "zul", "zul", "Zulu"),
];

/// A language as BCP 47 (RFC 5646) wants it, from a tag as files have it: `eng` and `en` are `en`, `ger` and `deu` are `de`, `PT-br` is
/// `pt-BR`; three letters that have no two stay. `None` for what is no language or says that none is known.
pub fn language_tag(raw: &str) -> Option<String> {
    let raw = raw.trim().to_ascii_lowercase().replace('_', "-");
    let (language, region) = match raw.split_once('-') {
        // Of what may follow, only a region matters to a viewer.
        Some((language, rest)) => (language, rest.split('-').find(|part| part.len() == 2)),
        None => (raw.as_str(), None),
    };
    let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    if !(2..=3).contains(&language.len()) || !letters(language) || ["und", "mis", "zxx"].contains(&language) {
        return None;
    }
    let known = LANGUAGES.iter().find(|(_, new, old, _)| [*new, *old].contains(&language));
    let language = known.map_or(language, |(two, ..)| two);
    Some(match region.filter(|region| letters(region)) {
        Some(region) => format!("{language}-{}", region.to_ascii_uppercase()),
        None => language.to_owned(),
    })
}

/// The English name of the language of a BCP 47 tag.
pub fn language_name(tag: &str) -> Option<&'static str> {
    let language = tag.split('-').next().unwrap_or(tag);
    LANGUAGES.iter().find(|(two, ..)| *two == language).map(|(.., name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_what_bcp_47_knows() {
        for (raw, tag) in [
            ("eng", "en"),
            ("FRE", "fr"),
            ("fra", "fr"),
            ("de", "de"),
            ("cmn", "cmn"),
            ("pt-br", "pt-BR"),
            ("zh_Hant_TW", "zh-TW"),
            ("por-x1", "pt"),
        ] {
            assert_eq!(language_tag(raw).as_deref(), Some(tag), "{raw}");
        }
        for raw in ["", "und", "mis", "english", "e", "e1", "\"x", "zxx", "é"] {
            assert_eq!(language_tag(raw), None, "{raw}");
        }
        assert_eq!(language_name("pt-BR"), Some("Portuguese"));
        assert_eq!(language_name("tlh"), None);
    }

    #[test]
    fn the_table_is_in_order_and_names_nothing_twice() {
        assert!(LANGUAGES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let mut codes: Vec<&str> = LANGUAGES.iter().flat_map(|(_, new, old, _)| [*new, *old]).collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        let doubled = LANGUAGES.iter().filter(|(_, new, old, _)| new == old).count();
        assert_eq!(codes.len(), all - doubled);
    }
}
