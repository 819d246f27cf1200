"""Training objectives, one short file each, all of one shape: see `base`.

    sft         cross-entropy on given text
    logit_kd    forward KL to the teacher on given text, mixed with cross-entropy
    opd         reverse KL to the teacher on the student's own rollouts: exact, sampled, discounted
    topk        reverse or forward KL of the teacher's top-k and a tail
    gkd         forward KL, reverse KL and the Jensen-Shannon divergences between them
    grpo        group-relative advantages of a reward, clipped ratio; mixed with the teacher's log-ratio
    ghost       raise the token of a better response over the student's own
    judge       REINFORCE with +1 or -1, and cross-entropy on what was rewarded

`distributions` holds what compares student and teacher, `policy` what follows a sampled token.
"""
