//! Content types by extension: pm2's table, with today's types for scripts, fonts and pictures.

use std::path::Path;

/// Of a file of this name. Texts are taken for UTF-8.
pub(super) fn of(path: &Path) -> &'static str {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    TYPES
        .iter()
        .find(|(extensions, _)| extensions.split(' ').any(|known| known == extension))
        .map_or("text/plain; charset=utf-8", |(_, kind)| kind)
}

const TYPES: [(&str, &str); 74] = [
    ("html htm", "text/html; charset=utf-8"),
    ("js mjs cjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("wasm", "application/wasm"),
    ("svg svgz", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("bmp", "image/bmp"),
    ("tif tiff", "image/tiff"),
    ("psd", "image/vnd.adobe.photoshop"),
    ("djv djvu", "image/vnd.djvu"),
    ("pbm", "image/x-portable-bitmap"),
    ("pgm", "image/x-portable-graymap"),
    ("pnm", "image/x-portable-anymap"),
    ("ppm", "image/x-portable-pixmap"),
    ("xbm", "image/x-xbitmap"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("otf otc", "font/otf"),
    ("ttf", "font/ttf"),
    ("mp4 mp4v mpg4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("webm", "video/webm"),
    ("mpeg mpg mpe", "video/mpeg"),
    ("mov qt", "video/quicktime"),
    ("mng", "video/x-mng"),
    ("flv", "video/x-flv"),
    ("wmv", "video/x-ms-wmv"),
    ("wmx", "video/x-ms-wmx"),
    ("asf asx", "video/x-ms-asf"),
    ("avi", "video/x-msvideo"),
    ("3gp", "video/3gpp"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/x-wav"),
    ("ogg oga opus", "audio/ogg"),
    ("flac", "audio/flac"),
    ("m4a", "audio/mp4"),
    ("mid midi", "audio/midi"),
    ("aif aiff", "audio/x-aiff"),
    ("au snd", "audio/basic"),
    ("m3u", "audio/x-mpegurl"),
    ("wma", "audio/x-ms-wma"),
    ("ra ram", "audio/x-pn-realaudio"),
    ("pdf", "application/pdf"),
    ("xml xsl", "application/xml"),
    ("atom", "application/atom+xml"),
    ("rss", "application/rss+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("bz2 tbz", "application/x-bzip2"),
    ("tar", "application/x-tar"),
    ("rar", "application/x-rar-compressed"),
    ("torrent", "application/x-bittorrent"),
    ("jar war ear class", "application/java-archive"),
    ("doc dot", "application/msword"),
    ("xls", "application/vnd.ms-excel"),
    ("ppt pps", "application/vnd.ms-powerpoint"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("csv", "text/csv; charset=utf-8"),
    ("ics ifb", "text/calendar; charset=utf-8"),
    ("yaml yml", "text/yaml; charset=utf-8"),
    ("md markdown", "text/markdown; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("exe com bat dll msi", "application/x-msdownload"),
    ("a bin deb dmg iso so", "application/octet-stream"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_extension() {
        for (name, expected) in [
            ("a/index.HTML", "text/html; charset=utf-8"),
            ("app.mjs", "text/javascript; charset=utf-8"),
            ("x.woff2", "font/woff2"),
            ("LICENSE", "text/plain; charset=utf-8"),
            ("x.unknown", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(of(Path::new(name)), expected);
        }
    }
}
