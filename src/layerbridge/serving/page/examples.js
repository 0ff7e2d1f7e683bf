// Names from the CLDR, as in the demo's task: what kind of thing is it?
// Language tag, its name in English, direction, text, what the text means.

export const EXAMPLES = [
  ["si", "Sinhala", "ltr", "ශ්‍රී ලංකා රුපියල", "Sri Lankan rupee"],
  ["ta", "Tamil", "ltr", "நேபாளம்", "Nepal"],
  ["am", "Amharic", "ltr", "ቻይንኛ", "Chinese"],
  ["ka", "Georgian", "ltr", "შვედური კრონა", "Swedish krona"],
  ["th", "Thai", "ltr", "เยนญี่ปุ่น", "Japanese yen"],
  ["bn", "Bengali", "ltr", "আইসল্যান্ড", "Iceland"],
  ["as", "Assamese", "ltr", "শ্ৰীলংকান ৰুপী", "Sri Lankan rupee"],
  ["hi", "Hindi", "ltr", "आइसलैंडिक", "Icelandic"],
  ["ar", "Arabic", "rtl", "شلن كينيي", "Kenyan shilling"],
  ["ur", "Urdu", "rtl", "آئس لینڈ", "Iceland"],
  ["he", "Hebrew", "rtl", "שעון הודו", "India Time"],
  ["zh-Hans", "Chinese", "ltr", "冰岛语", "Icelandic"],
  ["sw", "Swahili", "ltr", "Kijapani", "Japanese"],
  ["vi", "Vietnamese", "ltr", "Krona Thụy Điển", "Swedish krona"],
].map(([lang, language, dir, text, meaning]) => ({ lang, language, dir, text, meaning }));
