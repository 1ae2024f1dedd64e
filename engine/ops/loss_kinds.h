/* SPDX-License-Identifier: Apache-2.0 */
/* loss_kinds: attributes of the ops class_loss and its kernel. */
#ifndef GRADD_OPS_LOSS_KINDS_H
#define GRADD_OPS_LOSS_KINDS_H

enum { GD_CLASS_LOSS_NLL, GD_CLASS_LOSS_MULTI_MARGIN, GD_CLASS_LOSS_MULTI_LABEL_MARGIN, GD_CLASS_LOSS_COUNT };

/* What comes out: each row's loss times scale, their sum, or their sum over the targets' weights. */
enum { GD_CLASS_EACH, GD_CLASS_SUM, GD_CLASS_MEAN };

#endif
