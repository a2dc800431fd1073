// The rules that can be switched off, so that a test can prove that each one matters. Never for anything else.

/**
 * - 'fence': writes without an answer are sent again without any proof (R2, R3)
 * - 'journal': what was acknowledged and is not durable is not written again after a loss (R5)
 * - 'failed-sync': an fsync that failed is simply tried again (R6)
 * - 'identity': whoever answers, and whatever file is there, is taken for the right one (R7)
 */
export type Rule = 'fence' | 'journal' | 'failed-sync' | 'identity'
