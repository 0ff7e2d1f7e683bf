"""The codes by which translation models know the languages, by our codes (CLDR, BCP 47).

NLLB has the codes of FLORES-200, a language and a script; M2M100 has codes of its own. English is
in neither table: it is what is translated into.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from layerbridge.errors import DataError

_REGION = re.compile(r"-([A-Z]{2}|[0-9]{3})$")


def _table(pairs: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in pairs.split())


# A language's variety that NLLB has stands for the whole where the CLDR has one code: Swahili of
# the coast, Northern Uzbek, Plateau Malagasy.
NLLB: Mapping[str, str] = _table("""
    ace:ace_Latn ace-Arab:ace_Arab acm:acm_Arab acq:acq_Arab aeb:aeb_Arab af:afr_Latn ajp:ajp_Arab
    ak:aka_Latn am:amh_Ethi apc:apc_Arab ar:arb_Arab ars:ars_Arab ary:ary_Arab arz:arz_Arab
    as:asm_Beng ast:ast_Latn awa:awa_Deva ay:ayr_Latn az:azj_Latn azb:azb_Arab az-Arab:azb_Arab
    ba:bak_Cyrl ban:ban_Latn be:bel_Cyrl bem:bem_Latn bg:bul_Cyrl bho:bho_Deva bjn:bjn_Latn
    bjn-Arab:bjn_Arab bm:bam_Latn bn:ben_Beng bo:bod_Tibt bs:bos_Latn bug:bug_Latn ca:cat_Latn
    ceb:ceb_Latn cjk:cjk_Latn ckb:ckb_Arab crh:crh_Latn cs:ces_Latn cy:cym_Latn da:dan_Latn
    de:deu_Latn din:dik_Latn dyu:dyu_Latn dz:dzo_Tibt ee:ewe_Latn el:ell_Grek eo:epo_Latn
    es:spa_Latn et:est_Latn eu:eus_Latn fa:pes_Arab fa-AF:prs_Arab ff:fuv_Latn fi:fin_Latn
    fil:tgl_Latn fj:fij_Latn fo:fao_Latn fon:fon_Latn fr:fra_Latn fur:fur_Latn ga:gle_Latn
    gd:gla_Latn gl:glg_Latn gn:grn_Latn gu:guj_Gujr ha:hau_Latn he:heb_Hebr hi:hin_Deva hne:hne_Deva
    hr:hrv_Latn ht:hat_Latn hu:hun_Latn hy:hye_Armn id:ind_Latn ig:ibo_Latn ilo:ilo_Latn is:isl_Latn
    it:ita_Latn ja:jpn_Jpan jv:jav_Latn ka:kat_Geor kab:kab_Latn kac:kac_Latn kam:kam_Latn
    kbp:kbp_Latn kea:kea_Latn kg:kon_Latn ki:kik_Latn kk:kaz_Cyrl km:khm_Khmr kmb:kmb_Latn
    kn:kan_Knda ko:kor_Hang kr:knc_Latn kr-Arab:knc_Arab ks:kas_Arab ks-Deva:kas_Deva ku:kmr_Latn
    ky:kir_Cyrl lb:ltz_Latn lg:lug_Latn li:lim_Latn lij:lij_Latn lmo:lmo_Latn ln:lin_Latn
    lo:lao_Laoo lt:lit_Latn ltg:ltg_Latn lua:lua_Latn luo:luo_Latn lus:lus_Latn lv:lvs_Latn
    mag:mag_Deva mai:mai_Deva mg:plt_Latn mi:mri_Latn min:min_Latn mk:mkd_Cyrl ml:mal_Mlym
    mn:khk_Cyrl mni:mni_Beng mos:mos_Latn mr:mar_Deva ms:zsm_Latn mt:mlt_Latn my:mya_Mymr
    nb:nob_Latn ne:npi_Deva nl:nld_Latn nn:nno_Latn no:nob_Latn nso:nso_Latn nus:nus_Latn
    ny:nya_Latn oc:oci_Latn om:gaz_Latn or:ory_Orya pa:pan_Guru pag:pag_Latn pap:pap_Latn
    pl:pol_Latn ps:pbt_Arab pt:por_Latn qu:quy_Latn rn:run_Latn ro:ron_Latn ru:rus_Cyrl rw:kin_Latn
    sa:san_Deva sat:sat_Beng sc:srd_Latn scn:scn_Latn sd:snd_Arab sg:sag_Latn shn:shn_Mymr
    si:sin_Sinh sk:slk_Latn sl:slv_Latn sm:smo_Latn sn:sna_Latn so:som_Latn sq:als_Latn sr:srp_Cyrl
    ss:ssw_Latn st:sot_Latn su:sun_Latn sv:swe_Latn sw:swh_Latn szl:szl_Latn ta:tam_Taml
    taq:taq_Latn taq-Tfng:taq_Tfng te:tel_Telu tg:tgk_Cyrl th:tha_Thai ti:tir_Ethi tk:tuk_Latn
    tl:tgl_Latn tn:tsn_Latn tpi:tpi_Latn tr:tur_Latn ts:tso_Latn tt:tat_Cyrl tum:tum_Latn
    tw:twi_Latn tzm-Tfng:tzm_Tfng ug:uig_Arab uk:ukr_Cyrl umb:umb_Latn ur:urd_Arab uz:uzn_Latn
    vec:vec_Latn vi:vie_Latn war:war_Latn wo:wol_Latn xh:xho_Latn yi:ydd_Hebr yo:yor_Latn
    yue:yue_Hant zgh:tzm_Tfng zh:zho_Hans zh-Hans:zho_Hans zh-Hant:zho_Hant zh-HK:zho_Hant
    zh-MO:zho_Hant zh-TW:zho_Hant zu:zul_Latn
""")

_M2M100_AS_OURS = """
    af am ar ast az ba be bg bn br bs ca ceb cs cy da de el es et fa ff fi fr fy ga gd gl gu ha he
    hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl
    no oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi
    yo zh zu
"""
M2M100: Mapping[str, str] = {code: code for code in _M2M100_AS_OURS.split()} | _table(
    "fil:tl nb:no nso:ns zh-Hans:zh zh-Hant:zh"
)


# Some benchmarks name languages as FLORES does.
_FLORES: Mapping[str, str] = {theirs: ours for ours, theirs in reversed(list(NLLB.items()))}


def code_in(table: Mapping[str, str], language: str, translator: str) -> str:
    """A model's code for a language, which may come with a region: ``pt-BR``.

    Args:
        table: of the model's family.
        language: CLDR code, or that of FLORES.
        translator: what the error calls the model.

    Raises:
        DataError: the model does not have the language.
    """
    given = _FLORES.get(language, language).replace("_", "-")
    # A region hardly changes how a language is written; a script does, so it is never left out.
    for code in (given, _REGION.sub("", given)):
        if code in table:
            return table[code]
    raise DataError(
        f"the translator {translator} has no language {language!r}",
        hint="leave the language out, or choose another translator",
    )
