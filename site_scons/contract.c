/* SPDX-License-Identifier: MIT */
/* Refers to every function of the contracts. The build links it with a composition, beside the library, so that the
 * linker names each function that a plug-in has forgotten: the library itself leaves out what it does not call. */
#include "core/store.h"

typedef void any_function(void);

/* Visible, so that the linker does not take it for garbage with all that it refers to. */
extern any_function *const hak_contract[] __attribute__((visibility("default")));

any_function *const hak_contract[] = {
    (any_function *)frontend_alloc,
    (any_function *)frontend_free,
    (any_function *)frontend_refill,
    (any_function *)frontend_flush,
    (any_function *)frontend_held,
    (any_function *)frontend_walk,
    (any_function *)frontend_init,
    (any_function *)frontend_empty,
    (any_function *)frontend_valid,
    (any_function *)frontend_tick,
    (any_function *)frontend_forget,
    (any_function *)frontend_lock,
    (any_function *)frontend_unlock,
    (any_function *)store_held,
    (any_function *)store_walk,
    (any_function *)store_upkeep,
    (any_function *)store_empty,
    (any_function *)backend_lookup,
    (any_function *)backend_refill_chain,
    (any_function *)backend_return_chain,
    (any_function *)backend_free,
    (any_function *)backend_large_alloc,
    (any_function *)backend_usable_size,
    (any_function *)backend_has,
    (any_function *)backend_init,
    (any_function *)backend_lock,
    (any_function *)backend_unlock,
    (any_function *)backend_trim,
    (any_function *)backend_walk,
    (any_function *)backend_free_blocks,
    (any_function *)backend_is_block,
    (any_function *)backend_metadata,
    (any_function *)backend_valid,
    (any_function *)backend_grid,
    (any_function *)backend_refill_used,
    (any_function *)backend_resize,
    (any_function *)backend_move,
    (any_function *)backend_settle,
    (any_function *)backend_walk_kept,
    (any_function *)backend_tick,
    (any_function *)backend_upkeep,
    (any_function *)backend_footprint,
};
